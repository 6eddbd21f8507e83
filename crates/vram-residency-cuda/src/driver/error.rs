//! What a driver call can answer instead of doing its work.

use crate::sys::CuResult;

/// A driver call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The driver said no.
    #[error("{op} failed: {name} ({}): {text}", code.0)]
    Call {
        /// The driver call.
        op: &'static str,
        /// The driver's number, known to us or not.
        code: CuResult,
        /// The driver's name for it, or "unknown".
        name: String,
        /// The driver's text.
        text: String,
    },
    /// The driver is too old to have this call.
    #[error("the driver does not offer {op}; a newer driver does")]
    Missing {
        /// The missing symbol.
        op: &'static str,
    },
}

impl DriverError {
    /// The driver's number; `None` when the call does not exist.
    #[must_use]
    pub const fn code(&self) -> Option<CuResult> {
        match self {
            Self::Call { code, .. } => Some(*code),
            Self::Missing { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_the_number_and_the_drivers_words() {
        let error = DriverError::Call {
            op: "cuMemCreate",
            code: CuResult(12345),
            name: "unknown".into(),
            text: "no text".into(),
        };
        assert_eq!(
            error.to_string(),
            "cuMemCreate failed: unknown (12345): no text"
        );
        assert_eq!(error.code(), Some(CuResult(12345)));
        let missing = DriverError::Missing { op: "cuMemCreate" };
        assert!(missing.to_string().contains("cuMemCreate"));
        assert_eq!(missing.code(), None);
    }
}
