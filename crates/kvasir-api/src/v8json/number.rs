//! Numbers as text.

/// Appends a finite number as JSON, integers without a fraction.
pub(super) fn push_json(out: &mut Vec<u8>, number: f64) {
    /// Below it every integer is a double, and its digits are exactly its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    use std::io::Write as _;
    let written = if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        write!(out, "{number:.0}")
    } else {
        // The shortest digits that read back as the same double; large and small ones with an
        // exponent.
        write!(out, "{number:?}")
    };
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

/// The text of a number that JSON cannot say, if it is one.
pub(super) fn special(number: f64) -> Option<&'static str> {
    if number.is_nan() {
        Some("NaN")
    } else if number == f64::INFINITY {
        Some("Infinity")
    } else if number == f64::NEG_INFINITY {
        Some("-Infinity")
    } else if number == 0.0 && number.is_sign_negative() {
        Some("-0")
    } else {
        None
    }
}

/// The number that [`special`] gave a text to.
pub(super) fn from_special(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "-0" => Some(-0.0),
        _ => None,
    }
}
