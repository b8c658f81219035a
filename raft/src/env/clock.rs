//! Wall-clock time as a seam: nodes of a simulated cluster disagree about it.

/// Milliseconds since 1970. Used for commit timestamps and retention, never for ordering or leases.
pub trait Clock: Send + Sync + 'static {
    fn now_ms(&self) -> i64;
}

/// The machine's clock. Inside the simulator the call is intercepted and gives virtual time.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place where wall time enters
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| d.as_millis() as i64)
    }
}
