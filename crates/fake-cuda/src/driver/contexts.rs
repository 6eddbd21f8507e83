//! Primary contexts, and the context stack of each thread.

use std::collections::{BTreeSet, VecDeque};

use super::codes::CuError;
use super::queue::Stream;
use super::state::{Context, Driver};

impl Driver {
    /// `cuDevicePrimaryCtxRetain`: the context.
    pub(crate) fn retain(&mut self, device: usize) -> Result<u64, CuError> {
        let existing = self.devices.get(device).and_then(|d| d.primary);
        if let Some(id) = existing {
            if let Some(context) = self.contexts.get_mut(&id) {
                context.retained = context.retained.saturating_add(1);
            }
            return Ok(id);
        }
        if self.used(device).saturating_add(self.options.context_bytes) > self.options.vram {
            return Err(CuError::OUT_OF_MEMORY);
        }
        let id = self.handle();
        let stream = self.handle();
        self.queues.streams.insert(
            stream,
            Stream {
                context: id,
                blocking: true,
                legacy: true,
                queue: VecDeque::new(),
            },
        );
        let context = Context {
            device,
            retained: 1,
            sticky: None,
            stream,
            peers: BTreeSet::new(),
        };
        self.contexts.insert(id, context);
        if let Some(device) = self.devices.get_mut(device) {
            device.primary = Some(id);
        }
        Ok(id)
    }

    /// `cuDevicePrimaryCtxRelease`: the last release destroys the context.
    pub(crate) fn release(&mut self, device: usize) -> Result<(), CuError> {
        let id = self
            .devices
            .get(device)
            .and_then(|d| d.primary)
            .ok_or(CuError::INVALID_CONTEXT)?;
        let context = self.contexts.get_mut(&id).ok_or(CuError::INVALID_CONTEXT)?;
        context.retained = context.retained.saturating_sub(1);
        if context.retained == 0 {
            self.destroy(id);
        }
        Ok(())
    }

    /// Destroys the device's context, if it has one, however often it is retained.
    pub(crate) fn reset_primary(&mut self, device: usize) {
        if let Some(id) = self.devices.get(device).and_then(|d| d.primary) {
            self.destroy(id);
        }
    }

    /// Ends a context and everything that lives in it. Memory of the virtual
    /// memory API belongs to no context and stays.
    fn destroy(&mut self, id: u64) {
        // A context that is destroyed finishes its work first, as far as it can.
        let _health = self.wait_context(id);
        self.queues.streams.retain(|_, s| s.context != id);
        self.queues.events.retain(|_, e| e.context != id);
        self.modules.retain(|_, m| m.context != id);
        let modules = &self.modules;
        self.functions
            .retain(|_, f| modules.contains_key(&f.module));
        let owned = self.space.regions.iter().filter(|(_, r)| r.context == id);
        let owned: Vec<u64> = owned.map(|(start, _)| *start).collect();
        for start in owned {
            self.space.remove_region(start);
        }
        self.contexts.remove(&id);
        for device in &mut self.devices {
            device.primary = device.primary.filter(|p| *p != id);
        }
        self.refresh_rights();
    }

    pub(crate) fn push(&mut self, context: u64) -> Result<(), CuError> {
        if !self.contexts.contains_key(&context) {
            return Err(CuError::INVALID_CONTEXT);
        }
        self.stack(|s| s.push(context));
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Result<u64, CuError> {
        self.stack(Vec::pop)
            .filter(|c| *c != 0)
            .ok_or(CuError::INVALID_CONTEXT)
    }

    /// `cuCtxSetCurrent`: replaces the top of the stack; null pops it.
    pub(crate) fn set_current(&mut self, context: u64) -> Result<(), CuError> {
        if context != 0 && !self.contexts.contains_key(&context) {
            return Err(CuError::INVALID_CONTEXT);
        }
        self.stack(|s| {
            s.pop();
            if context != 0 {
                s.push(context);
            }
        });
        Ok(())
    }

    /// `cuCtxEnablePeerAccess` and its undoing.
    pub(crate) fn set_peer(&mut self, peer: u64, on: bool) -> Result<(), CuError> {
        let current = self.healthy()?;
        let other = self.device_of(peer)?;
        let own = self.device_of(current)?;
        if !self.options.peer || other == own {
            return Err(if other == own {
                CuError::INVALID_DEVICE
            } else {
                CuError::PEER_UNSUPPORTED
            });
        }
        let context = self
            .contexts
            .get_mut(&current)
            .ok_or(CuError::INVALID_CONTEXT)?;
        let changed = if on {
            context.peers.insert(other)
        } else {
            context.peers.remove(&other)
        };
        if !changed {
            return Err(if on {
                CuError::PEER_ALREADY_ENABLED
            } else {
                CuError::PEER_NOT_ENABLED
            });
        }
        self.refresh_rights();
        Ok(())
    }
}
