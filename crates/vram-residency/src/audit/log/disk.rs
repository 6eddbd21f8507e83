//! A disk that remembers every state in which a kill or a power failure could leave
//! it. Changes of names reach it in their order, as a journal keeps them; bytes
//! that were not synced may be there, in part or not at all.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::Storage;
use crate::audit::check::Files;
use crate::audit::check::files::is_log_file;
use crate::audit::line::{self, CURRENT};

const DRAFT: &str = ".new";

/// Files as somebody finds them.
pub(super) type Image = BTreeMap<String, Vec<u8>>;
type Names = BTreeMap<String, usize>;

#[derive(Clone, Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
}

/// What the disk holds and what of it would outlive a power failure.
#[derive(Clone)]
pub(super) struct State {
    inodes: Vec<Inode>,
    /// The synced names, and those after each change since.
    names: Vec<Names>,
}

#[derive(Default)]
struct Past {
    states: Vec<(State, u64)>,
    mark: u64,
}

#[derive(Clone)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    past: Arc<Mutex<Past>>,
    renamed: bool,
}

impl State {
    fn now(&self) -> &Names {
        self.names.last().unwrap()
    }

    fn image(&self, names: &Names, bytes: &mut dyn FnMut(&Inode) -> Vec<u8>) -> Image {
        let file = |(name, at): (&String, &usize)| (name.clone(), bytes(&self.inodes[*at]));
        names.iter().map(file).collect()
    }

    /// What a killed writer leaves.
    pub(super) fn killed(&self) -> Image {
        self.image(self.now(), &mut |inode| inode.data.clone())
    }

    /// What a power failure leaves of names and bytes: as little as it may; all
    /// names and the bytes that were synced; and something in between.
    pub(super) fn powerless(&self, below: &mut dyn FnMut(usize) -> usize) -> [Image; 3] {
        let synced = &mut |inode: &Inode| inode.synced.clone();
        let least = self.image(&self.names[0], synced);
        let names = self.image(self.now(), synced);
        let some = &self.names[below(self.names.len())];
        let between = self.image(some, &mut |inode| {
            let Some(more) = inode.data.strip_prefix(inode.synced.as_slice()) else {
                return [&inode.data, &inode.synced][below(2)].clone();
            };
            [&inode.synced, &more[..below(more.len() + 1)]].concat()
        });
        [least, names, between]
    }
}

impl Disk {
    pub(super) fn new(image: Image) -> Self {
        let (names, files): (Vec<_>, Vec<_>) = image.into_iter().unzip();
        let inode = |data: Vec<u8>| Inode {
            synced: data.clone(),
            data,
        };
        let state = State {
            inodes: files.into_iter().map(inode).collect(),
            names: vec![names.into_iter().zip(0..).collect()],
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            past: Arc::default(),
            renamed: false,
        }
    }

    /// What a log opens.
    pub(super) fn storage(&self) -> Box<dyn Storage> {
        if !self.state().now().contains_key(CURRENT) {
            self.create(CURRENT);
        }
        Box::new(self.clone())
    }

    /// States from here on bear this mark.
    pub(super) fn mark(&self, mark: u64) {
        self.past.lock().unwrap().mark = mark;
    }

    /// Every state since the last call, with its mark.
    pub(super) fn past(&self) -> Vec<(State, u64)> {
        std::mem::take(&mut self.past.lock().unwrap().states)
    }

    pub(super) fn image(&self) -> Image {
        self.state().killed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn step(&self) {
        let mut past = self.past.lock().unwrap();
        let state = (self.state().clone(), past.mark);
        past.states.push(state);
    }

    fn with_inode(&self, name: &str, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut state = self.state();
        let at = *state.now().get(name).ok_or(io::ErrorKind::NotFound)?;
        change(&mut state.inodes[at]);
        drop(state);
        self.step();
        Ok(())
    }

    fn with_names(&self, change: impl FnOnce(&mut Names)) {
        let mut state = self.state();
        let mut names = state.now().clone();
        change(&mut names);
        state.names.push(names);
        drop(state);
        self.step();
    }

    fn create(&self, name: &str) {
        let mut state = self.state();
        let at = state.inodes.len();
        state.inodes.push(Inode::default());
        drop(state);
        self.with_names(|names| {
            names.insert(name.to_owned(), at);
        });
    }

    fn rename(&self, from: &str, to: &str) {
        self.with_names(|names| {
            let at = names.remove(from).unwrap();
            names.insert(to.to_owned(), at);
        });
    }

    fn sync_names(&self) {
        let mut state = self.state();
        let now = state.now().clone();
        state.names = vec![now];
        drop(state);
        self.step();
    }
}

impl Storage for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        self.with_inode(CURRENT, |inode| inode.data.extend_from_slice(one))?;
        self.with_inode(CURRENT, |inode| inode.data.extend_from_slice(other))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with_inode(CURRENT, |inode| inode.synced = inode.data.clone())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.with_inode(CURRENT, |inode| inode.data.resize(len, 0))
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        if !self.renamed {
            self.rename(CURRENT, &line::segment_name(first));
            self.renamed = true;
        }
        self.create(CURRENT);
        self.renamed = false;
        self.sync_names();
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let draft = format!("{path}{DRAFT}");
        self.create(&draft);
        self.with_inode(&draft, |inode| inode.data = bytes.to_vec())?;
        if durable {
            self.with_inode(&draft, |inode| inode.synced = inode.data.clone())?;
        }
        self.rename(&draft, path);
        if durable {
            self.sync_names();
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.with_names(|names| {
            names.remove(path);
        });
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        let mut state = self.state();
        for inode in &mut state.inodes {
            inode.synced.clone_from(&inode.data);
        }
        drop(state);
        self.sync_names();
        Ok(())
    }

    fn remove_drafts(&mut self) -> io::Result<()> {
        self.with_names(|names| names.retain(|name, _| !name.ends_with(DRAFT)));
        Ok(())
    }
}

impl Files for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = self.state().now().clone().into_keys();
        Ok(names.filter(|name| is_log_file(name)).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn io::BufRead + '_>> {
        let bytes = self.image().remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}
