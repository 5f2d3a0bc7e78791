//! Numbers and times for people.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `count` in `time` as a whole number a second; 0 for no time at all.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    let nanoseconds = time.as_nanos();
    let scaled = u128::from(count) * 1_000_000_000;
    scaled.checked_div(nanoseconds).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// Nanoseconds as seconds with nine digits behind the point: nothing is rounded away.
pub(crate) fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

/// Microseconds in the unit that leaves one to four digits before the point.
pub(crate) fn microseconds(microseconds: u64) -> String {
    let (unit, size) = match microseconds {
        0..1_000 => return format!("{microseconds} us"),
        1_000..1_000_000 => ("ms", 1_000),
        _ => ("s", 1_000_000),
    };
    format!("{}.{} {unit}", thousands(microseconds / size), microseconds % size * 10 / size)
}

/// `1 site`, `2 sites`, `2 patches`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn rates() {
        assert_eq!(per_second(10, Duration::from_secs(4)), 2);
        assert_eq!(per_second(10, Duration::from_millis(1)), 10_000);
        assert_eq!(per_second(10, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }

    #[test]
    fn times() {
        assert_eq!(seconds(0), "0.000000000");
        assert_eq!(seconds(1_000_000_023), "1.000000023");
        assert_eq!(microseconds(0), "0 us");
        assert_eq!(microseconds(999), "999 us");
        assert_eq!(microseconds(1_000), "1.0 ms");
        assert_eq!(microseconds(12_345), "12.3 ms");
        assert_eq!(microseconds(2_999_999), "2.9 s");
        assert_eq!(microseconds(u64::MAX), "18,446,744,073,709.5 s");
    }

    #[test]
    fn plurals() {
        assert_eq!(counted(1, "site"), "1 site");
        assert_eq!(counted(0, "site"), "0 sites");
        assert_eq!(counted(1_500, "thread"), "1,500 threads");
    }
}
