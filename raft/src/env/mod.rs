//! The seams to the outside: disk, clock, runtime. The only place that names tokio or madsim.

pub mod clock;
pub mod disk;
pub mod runtime;

/// A future that can be sent between threads; what trait objects of the seams return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
