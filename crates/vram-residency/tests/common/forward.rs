//! For a device around another device: the methods that it leaves to the inner one.

/// `forward!(inner: free read)` among the methods of `impl Device` lets `self.inner` answer
/// `free` and `read`. Whoever calls it has `use vram_residency::device`.
macro_rules! forward {
    ($inner:ident: $($method:ident)*) => { $(forward!(@$method $inner);)* };
    (@facts $inner:ident) => {
        forward!(@fn $inner facts() -> Result<device::DeviceInfo, device::DeviceError>);
    };
    (@memory $inner:ident) => {
        forward!(@fn $inner memory() -> Result<device::MemoryInfo, device::DeviceError>);
    };
    (@allocate $inner:ident) => {
        forward!(@fn $inner allocate(len: u64) -> Result<device::Allocated, device::DeviceError>);
    };
    (@free $inner:ident) => {
        forward!(@fn $inner free(buffer: device::BufferId) -> Result<(), device::FreeError>);
    };
    (@protect $inner:ident) => {
        forward!(@fn $inner protect(buffer: device::BufferId, protection: device::Protection) -> Result<(), device::DeviceError>);
    };
    (@witness $inner:ident) => {
        forward!(@fn $inner witness(buffer: device::BufferId) -> Result<device::Witness, device::DeviceError>);
    };
    (@address $inner:ident) => {
        forward!(@fn $inner address(extent: device::Extent) -> Result<Option<device::DeviceAddress>, device::DeviceError>);
    };
    (@upload $inner:ident) => {
        fn upload<'d>(
            &'d self,
            plan: device::UploadPlan<'_>,
        ) -> Result<Box<dyn device::Upload + 'd>, device::DeviceError> {
            self.$inner.upload(plan)
        }
    };
    (@read $inner:ident) => {
        forward!(@fn $inner read(extent: device::Extent, offset: u64, out: &mut [u8]) -> Result<(), device::DeviceError>);
    };
    (@write $inner:ident) => {
        forward!(@fn $inner write(extent: device::Extent, offset: u64, bytes: &[u8]) -> Result<(), device::DeviceError>);
    };
    (@fill $inner:ident) => {
        forward!(@fn $inner fill(extent: device::Extent, byte: u8) -> Result<(), device::DeviceError>);
    };
    (@block_digests $inner:ident) => {
        forward!(@fn $inner block_digests(extent: device::Extent, blocks: std::ops::Range<u64>, out: &mut [vram_digest::BlockHash]) -> Result<(), device::DeviceError>);
    };
    (@keyed_tags $inner:ident) => {
        forward!(@fn $inner keyed_tags(extent: device::Extent, segments: &[u64], keys: &[&vram_digest::nh::Key]) -> Result<Vec<vram_digest::nh::Tag>, device::DeviceError>);
    };
    (@copy_to $inner:ident) => {
        forward!(@fn $inner copy_to(from: device::Extent, to: &dyn device::Device, dest: device::Extent) -> Result<(), device::DeviceError>);
    };
    (@as_any $inner:ident) => {
        forward!(@fn $inner as_any() -> &dyn std::any::Any);
    };
    (@close $inner:ident) => {
        forward!(@fn $inner close() -> Result<(), device::FreeError>);
    };
    (@fn $inner:ident $method:ident($($given:ident: $type:ty),*) -> $answer:ty) => {
        fn $method(&self, $($given: $type),*) -> $answer {
            self.$inner.$method($($given),*)
        }
    };
}
pub(crate) use forward;
