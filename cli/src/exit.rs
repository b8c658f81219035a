//! How a verb ends: one exit code table for the whole binary, one shape of error message.

use fluss::error::{Error, FlussError};
use std::fmt::Display;

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const UNREACHABLE: u8 = 3;
pub const NOT_FOUND: u8 = 4;
pub const UNHEALTHY: u8 = 5;
pub const TIMED_OUT: u8 = 6;
pub const NOT_ALLOWED: u8 = 7;
pub const PARTIAL: u8 = 8;
pub const INTERRUPTED: u8 = 130;

/// What went wrong, why, and what to do next; and the code to exit with.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub what: String,
    pub why: Option<String>,
    pub next: Option<String>,
}

impl Failure {
    fn new(code: u8, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, next: None }
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(FAILED, what)
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(USAGE, what)
    }

    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, what)
    }

    pub fn unreachable(what: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, what)
    }

    pub fn unhealthy(what: impl Into<String>) -> Self {
        Self::new(UNHEALTHY, what)
    }

    pub fn timed_out(what: impl Into<String>) -> Self {
        Self::new(TIMED_OUT, what)
    }

    pub fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted")
    }

    pub fn why(mut self, why: impl Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// An error of the client while doing `what`.
    pub fn client(what: impl Into<String>, error: &Error) -> Self {
        let what = what.into();
        match error {
            Error::FlussAPIError { api_error } => {
                let kind = FlussError::for_code(api_error.code);
                let (code, next) = match api_error.code {
                    4 => (NOT_FOUND, Some("floss database list shows what there is")),
                    7 => (NOT_FOUND, Some("floss table list shows what there is")),
                    25 => (TIMED_OUT, Some("floss cluster health shows whether a majority is up")),
                    46 | 48 => (NOT_ALLOWED, None),
                    _ => (FAILED, None),
                };
                let mut failure = Self::new(code, what).why(format!("{:?} ({}): {}", kind, api_error.code, api_error.message));
                failure.next = next.map(str::to_string);
                failure
            }
            Error::RpcError { .. } => {
                Self::new(UNREACHABLE, what).why(error).next("check --bootstrap, or start a local cluster with: floss dev up")
            }
            Error::IllegalArgument { .. } | Error::UnsupportedOperation { .. } => Self::new(USAGE, what).why(error),
            _ => Self::new(FAILED, what).why(error),
        }
    }

    /// One line what, one line why, one line what to do next.
    pub fn report(&self) {
        eprintln!("error: {}", self.what);
        if let Some(why) = &self.why {
            eprintln!("  why: {why}");
        }
        if let Some(next) = &self.next {
            eprintln!("  next: {next}");
        }
    }
}

/// `client_call.or_fail("what was being done")?`
pub trait OrFail<T> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure>;
}

impl<T> OrFail<T> for Result<T, Error> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::client(what, &error))
    }
}

impl<T> OrFail<T> for std::io::Result<T> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { FAILED };
            Failure::new(code, what).why(error)
        })
    }
}

impl<T> OrFail<T> for Result<T, arrow59::error::ArrowError> {
    fn or_fail(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::failed(what).why(error))
    }
}
