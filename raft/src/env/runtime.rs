//! One runtime facade: real tokio, or madsim's under `--cfg madsim`. Same names, same source.
//!
//! `select!` must be `biased;` everywhere: unbiased branches draw from a source that a seed does not fix.
//! `sync::watch` of tokio wakes waiters in an order that a seed does not fix: use [`crate::env::watch`] or Notify.

pub use tokio::net;
pub use tokio::select;
pub use tokio::sync;
pub use tokio::task::{JoinHandle, yield_now};
pub use tokio::{io, spawn};

/// Tokio's clocks and timers.
pub mod time {
    pub use tokio::time::*;

    /// madsim has none.
    #[cfg(madsim)]
    pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, error::Elapsed> {
        timeout(deadline.saturating_duration_since(Instant::now()), future).await
    }
}

/// Both directions of a connection, for two tasks.
#[cfg(not(madsim))]
pub fn split_tcp(stream: net::TcpStream) -> (net::tcp::OwnedReadHalf, net::tcp::OwnedWriteHalf) {
    stream.into_split()
}

/// madsim's streams only split behind a lock.
#[cfg(madsim)]
pub fn split_tcp(stream: net::TcpStream) -> (io::ReadHalf<net::TcpStream>, io::WriteHalf<net::TcpStream>) {
    io::split(stream)
}

/// What openraft runs on.
#[cfg(not(madsim))]
pub type RaftRuntime = openraft_rt_tokio::TokioRuntime;
#[cfg(madsim)]
pub type RaftRuntime = super::madsim_runtime::MadsimRuntime;

/// Runs `future` to its end on a runtime of its own: for tests. (The binary and the simulator build their runtimes themselves.)
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[cfg(madsim)]
    let runtime = madsim::runtime::Runtime::new();
    #[cfg(not(madsim))]
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only a few file descriptors");
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    #[test]
    fn openrafts_runtime_suite() {
        openraft_rt::testing::Suite::<super::RaftRuntime>::test_all();
    }
}
