//! The seams to the outside: disk, clock, runtime. The only place that names tokio or madsim.
#![allow(clippy::disallowed_methods)] // the one place where the real clock, files and threads are

#[cfg(not(madsim))]
mod buffers;
pub mod clock;
#[cfg(not(madsim))]
mod direct;
pub mod disk;
pub mod disk_contract;
pub mod disk_mem;
#[cfg(not(madsim))]
pub mod disk_os;
#[cfg(madsim)]
mod madsim_runtime;
pub mod runtime;
#[cfg(madsim)]
mod watch;

/// A future that can be sent between threads; what trait objects of the seams return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
