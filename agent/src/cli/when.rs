//! Times as operators type them: how long (`30m`, `1h30m`), and when (`+10m`, `03:30`, `2030-01-31T03:30:00Z`).

use std::time::Duration;

/// Longest time that can be typed, s: a year. What is too long for its purpose is refused by whoever knows that.
const MOST_S: u64 = 366 * 86_400;

/// Seconds of a duration: numbers with a unit of `s`, `m`, `h` or `d` each; a number alone is in seconds.
///
/// # Errors
/// How it is written.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write it as 30m, 90s or 1h30m");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..digits).unwrap_or_default().parse().map_err(|_| wrong())?;
        let unit = rest.get(digits..).unwrap_or_default();
        let factor = match unit.chars().next() {
            // A bare number stands alone.
            None if digits == text.trim().len() => 1,
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(factor).and_then(|s| s.checked_add(total)).ok_or_else(wrong)?;
        rest = unit.get(1..).unwrap_or_default();
    }
    if total > MOST_S { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

/// In how many seconds a time is; negative: it is over. `now_s` is the wall clock, s since 1970; `today` says when it is
/// that hour and minute here, so many days from today.
///
/// # Errors
/// How it is written.
pub(super) fn from_now(
    text: &str,
    now_s: i64,
    today: impl Fn(i32, u8, u8) -> Option<i64>,
) -> Result<i64, String> {
    let wrong =
        || format!("{text:?} is no time: write it as +10m, as 03:30 (here), or as 2030-01-31T03:30:00Z");
    let text = text.trim();
    if let Some(ahead) = text.strip_prefix('+') {
        return duration(ahead).map(|d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)).map_err(|_| wrong());
    }
    if let Some((hour, minute)) = clock(text) {
        // The next time that it is so late.
        let days = [0, 1].into_iter().filter_map(|day| today(day, hour, minute));
        return days.map(|at| at - now_s).find(|s| *s > 0).ok_or_else(wrong);
    }
    rfc3339(text).map(|at| at - now_s).ok_or_else(wrong)
}

fn number(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn clock(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (number(hour, hour.len().clamp(1, 2))?, number(minute, 2)?);
    (hour < 24 && minute < 60).then_some((u8::try_from(hour).ok()?, u8::try_from(minute).ok()?))
}

/// Seconds since 1970 of a time of RFC 3339; parts of a second are cut off.
fn rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone = time.rfind(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut parts = time.split(':');
    let (h, m) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let s = parts.next().map_or(Some(0), |s| number(s, 2))?;
    if parts.next().is_some() || h > 23 || m > 59 || s > 60 {
        return None;
    }
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, rest) => {
            let (oh, om) = rest.split_once(':')?;
            let (oh, om) = (number(oh, 2).filter(|h| *h < 24)?, number(om, 2).filter(|m| *m < 60)?);
            let minutes = i64::from(oh * 60 + om);
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let seconds = i64::from(h * 3600 + m * 60 + s);
    Some(days(i64::from(year), i64::from(month), i64::from(day)) * 86_400 + seconds - offset * 60)
}

/// Days since 1970 of a date of the Gregorian calendar: years begin in March here, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between the 1st of March of the year 0 and 1970.
    year * 365 + leap_days + of_year - 719_468
}

/// When it is that hour and minute on this machine, s since 1970, so many days from the day of `now_s`.
pub(super) fn here(now_s: i64, day: i32, hour: u8, minute: u8) -> Option<i64> {
    // SAFETY: `tm` is plain data, for which zeroes are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both live through the call.
    if unsafe { libc::localtime_r(&raw const now_s, &raw mut tm) }.is_null() {
        return None;
    }
    tm.tm_mday += day;
    (tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_isdst) = (i32::from(hour), i32::from(minute), 0, -1);
    // SAFETY: it lives through the call.
    let at = unsafe { libc::mktime(&raw mut tm) };
    (at >= 0).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them_and_nonsense_is_refused() {
        for (text, s) in [("30m", 1800), ("90s", 90), ("45", 45), ("1h30m", 5400), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(s)), "{text}");
        }
        for text in ["", "m", "30 minutes", "-5m", "5m30", "1.5h", "99999999999999999999s", "400d", "10é"] {
            assert!(duration(text).is_err_and(|e| e.contains("write it as")), "{text}");
        }
    }

    #[test]
    fn times_are_from_now_on_the_clock_of_this_place_or_in_full() {
        let now = 1_900_000_000;
        let today = |day: i32, h: u8, m: u8| {
            Some(now - 43_200 + i64::from(day) * 86_400 + i64::from(h) * 3600 + i64::from(m) * 60)
        };
        let read = |text: &str| from_now(text, now, today);
        assert_eq!(read("+10m"), Ok(600));
        assert_eq!(read("13:30"), Ok(5_400), "it is noon now");
        assert_eq!(read("3:30"), Ok(55_800), "tomorrow");
        assert_eq!(read("12:00"), Ok(86_400));
        assert_eq!(read("2030-03-17T17:46:50Z"), Ok(10));
        assert_eq!(read("2030-03-17T18:46:50.5+01:00"), Ok(10));
        assert_eq!(read("2030-03-17T17:46Z"), Ok(-40), "over");
        for text in [
            "25:00",
            "12:60",
            "tomorrow",
            "+",
            "2030-13-01T00:00:00Z",
            "2030-01-01T00:00:00",
            "1:2:3",
            "é:00",
        ] {
            assert!(read(text).is_err_and(|e| e.contains("03:30")), "{text}");
        }
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        assert_eq!((days(1970, 1, 1), days(1970, 3, 1), days(2000, 3, 1)), (0, 59, 11_017));
        assert_eq!(days(2028, 3, 1) - days(2028, 2, 28), 2, "a leap year");
        assert_eq!(days(2100, 3, 1) - days(2100, 2, 28), 1, "none");
    }

    #[test]
    fn the_clock_of_this_machine_is_asked() {
        let at = here(1_900_000_000, 1, 3, 30).expect("a time");
        assert!((at - 1_900_000_000 - 86_400).abs() <= 86_400 && at % 60 == 0);
    }
}
