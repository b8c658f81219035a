//! Durations in properties: `<number> <unit>`.

/// Units and their length in nanoseconds. Every long form may have a plural s.
const UNITS: &[(&[&str], &[&str], u128)] = &[
    (&["d"], &["day"], 86_400_000_000_000),
    (&["h"], &["hour"], 3_600_000_000_000),
    (&["m", "min"], &["minute"], 60_000_000_000),
    (&["s"], &["sec", "second"], 1_000_000_000),
    (&["ms"], &["milli", "millisecond"], 1_000_000),
    (&["us", "\u{b5}s"], &["micro", "microsecond"], 1_000),
    (&["ns"], &["nano", "nanosecond"], 1),
];

/// Milliseconds, cut towards zero. None if there is no number, no unit, an unknown unit, or more than fits.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_lowercase();
    let long = unit.strip_suffix('s').unwrap_or(&unit);
    let found = UNITS.iter().find(|(shorts, longs, _)| shorts.contains(&unit.as_str()) || longs.contains(&long))?;
    i64::try_from(u128::from(number) * found.2 / 1_000_000).ok()
}

/// The form that Fluss prints: the largest unit that divides it.
pub fn format_duration_ms(ms: i64) -> String {
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
        if ms != 0 && ms % length == 0 {
            return format!("{} {unit}", ms / length);
        }
    }
    format!("{ms} ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        let cases = [
            ("7 d", 604_800_000),
            ("1d", 86_400_000),
            ("2 days", 172_800_000),
            ("3 min", 180_000),
            ("3m", 180_000),
            ("1 Hour", 3_600_000),
            (" 5 S ", 5_000),
            ("5 seconds", 5_000),
            ("0ms", 0),
            ("1500000 ns", 1),
            ("10 micros", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration_ms(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "often",
            "7",
            "d",
            "-1 d",
            "1 fortnight",
            "1.5 h",
            "99999999999999999999 d",
            "18446744073709551615 d",
            "1 \u{e4}",
        ] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parse_undoes_format(ms in 0i64..=i64::MAX) {
            prop_assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Some(ms));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,12}") {
            let _ = parse_duration_ms(&text);
        }
    }
}
