use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp(u64::try_from(instant.as_millisecond()).unwrap())
}

fn shown(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap()).unwrap().to_string()
}

/// The next times in UTC after a point.
fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::new(expression, zone).unwrap();
    let next = |at: &Timestamp| schedule.next(*at);
    let found = std::iter::successors(next(&at(after)), next);
    found.take(count).map(shown).collect()
}

#[test]
fn fields_are_lists_ranges_steps_and_names() {
    let start = "2026-11-29T12:00:00Z";
    assert_eq!(
        times("*/20 9-10 * * mon-fri", "UTC", start, 4),
        [
            "2026-11-30T09:00:00Z",
            "2026-11-30T09:20:00Z",
            "2026-11-30T09:40:00Z",
            "2026-11-30T10:00:00Z",
        ]
    );
    assert_eq!(
        times("5,1-3/2 0 1 JAN,jul *", "UTC", start, 4),
        [
            "2027-01-01T00:01:00Z",
            "2027-01-01T00:03:00Z",
            "2027-01-01T00:05:00Z",
            "2027-07-01T00:01:00Z",
        ]
    );
    assert_eq!(
        times("0 0 29 2 *", "UTC", start, 2),
        ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]
    );
    assert_eq!(times("0 0 29 2 */7", "UTC", "2088-03-01T00:00:00Z", 1), ["2128-02-29T00:00:00Z"]);
    assert_eq!(times("@weekly", "UTC", start, 1), ["2026-12-06T00:00:00Z"]);
    assert_eq!(times("0 12 * * 7", "UTC", start, 1), ["2026-12-06T12:00:00Z"]);
    assert_eq!(
        times("0 12 * * fri-sun", "UTC", start, 2),
        ["2026-12-04T12:00:00Z", "2026-12-05T12:00:00Z"]
    );
}

#[test]
fn of_two_restricted_days_either_counts() {
    let start = "2026-11-29T12:00:00Z";
    assert_eq!(
        times("0 0 13 * fri", "UTC", start, 3),
        ["2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z",]
    );
    // A field that begins with a star does not restrict: both must fit.
    assert_eq!(
        times("0 0 */2 * fri", "UTC", start, 2),
        ["2026-12-11T00:00:00Z", "2026-12-25T00:00:00Z"]
    );
}

#[test]
fn a_skipped_hour_runs_once_when_the_clocks_jump() {
    let before = "2027-03-27T12:00:00Z";
    // In Berlin the clocks jump from 02:00 to 03:00 at 01:00 UTC.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", before, 2),
        ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
    );
    assert_eq!(
        times("*/15 2,3 28 3 *", "Europe/Berlin", before, 3),
        ["2027-03-28T01:00:00Z", "2027-03-28T01:15:00Z", "2027-03-28T01:30:00Z",]
    );
    assert_eq!(
        times("30 * 28 3 *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2),
        ["2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"]
    );
}

#[test]
fn a_doubled_hour_runs_once_unless_hours_are_counted() {
    let before = "2027-10-30T12:00:00Z";
    // In Berlin 02:30 comes at 00:30 UTC, and again at 01:30.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", before, 2),
        ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]
    );
    assert_eq!(
        times("30 * 31 10 *", "Europe/Berlin", "2027-10-30T23:00:00Z", 4),
        [
            "2027-10-30T23:30:00Z",
            "2027-10-31T00:30:00Z",
            "2027-10-31T01:30:00Z",
            "2027-10-31T02:30:00Z",
        ]
    );
    // Clocks that are put back at midnight.
    assert_eq!(
        times("59 23 * * *", "America/Havana", "2027-11-06T12:00:00Z", 2),
        ["2027-11-07T03:59:00Z", "2027-11-08T04:59:00Z"]
    );
}

#[test]
fn a_period_counts_from_the_epoch() {
    let start = "2026-11-29T12:00:01Z";
    assert_eq!(
        times("@every 5s", "UTC", start, 2),
        ["2026-11-29T12:00:05Z", "2026-11-29T12:00:10Z"]
    );
    assert_eq!(times("@every 1h30m", "Europe/Berlin", start, 1), ["2026-11-29T13:30:00Z"]);
}

#[test]
fn errors_say_what_is_wrong() {
    let error = |text: &str, zone: &str| Schedule::new(text, zone).unwrap_err().to_string();
    assert_eq!(error("* * * *", "UTC"), "a schedule has five fields, not 4");
    assert_eq!(error("60 * * * *", "UTC"), "`60` is not a valid minute (0 to 59)");
    assert_eq!(error("* 5-3 * * *", "UTC"), "`5-3` is not a valid hour (0 to 23)");
    assert_eq!(error("* 5/3 * * *", "UTC"), "`5/3` is not a valid hour (0 to 23)");
    assert_eq!(error("*/0 * * * *", "UTC"), "`*/0` is not a valid minute (0 to 59)");
    assert_eq!(error("+5 * * * *", "UTC"), "`+5` is not a valid minute (0 to 59)");
    let never = "the schedule never comes: no month that it names has such a day";
    assert_eq!(error("0 0 30 2 *", "UTC"), never);
    assert_eq!(error("@reboot", "UTC"), "`@reboot` is not a known short form of a schedule");
    assert_eq!(error("@every 0s", "UTC"), "`0s` is not a valid period");
    assert_eq!(error("@every 5", "UTC"), "`5` is not a valid period");
    assert_eq!(error("@daily", "Europe/Berlim"), "there is no time zone `Europe/Berlim`");
}

#[test]
fn the_latest_times_are_found_however_far_back() {
    let now = at("2026-11-29T12:00:00Z");
    let latest = |text: &str, after: &str, most| {
        let schedule = Schedule::new(text, "UTC").unwrap();
        schedule.latest(at(after), now, most).into_iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(
        latest("@every 1s", "2020-01-01T00:00:00Z", 2),
        ["2026-11-29T11:59:59Z", "2026-11-29T12:00:00Z"]
    );
    assert_eq!(
        latest("0 0 1 1 *", "2020-01-01T00:00:00Z", 2),
        ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]
    );
    assert_eq!(latest("0 12 * * *", "2026-11-29T12:00:00Z", 5), Vec::<String>::new());
}

/// A field's text, and the numbers that it stands for.
fn field(first: u32, last: u32) -> BoxedStrategy<(String, Vec<u32>)> {
    let any = Just(("*".to_owned(), (first..=last).collect::<Vec<_>>()));
    let one = (first..=last).prop_map(|n| (n.to_string(), vec![n]));
    let range = (first..=last, first..=last, 1_u32..5).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}/{step}"), (a..=b).step_by(step as usize).collect())
    });
    let step = (1_u32..20).prop_map(move |step| {
        (format!("*/{step}"), (first..=last).step_by(step as usize).collect())
    });
    prop_oneof![any, one, range, step].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// The next time is after the point, fits the expression, and no minute between does.
    #[test]
    fn the_next_time_is_the_first_that_fits(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12),
        weekday in field(0, 6), after in 1_600_000_000_000_u64..2_500_000_000_000,
    ) {
        let texts = [&minute, &hour, &day, &month, &weekday].map(|field| field.0.clone());
        // Only a day that no month has is refused.
        let schedule = match Schedule::new(&texts.join(" "), "UTC") {
            Err(ScheduleError::Never) => return Ok(()),
            schedule => schedule.unwrap(),
        };
        let next = schedule.next(Timestamp(after)).unwrap();
        let fits = |at: u64| {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
            let local = TimeZone::UTC.to_datetime(at);
            let has = |field: &(String, Vec<u32>), n: i8| {
                field.1.contains(&u32::try_from(n).unwrap())
            };
            let of_month = has(&day, local.day());
            let of_week = has(&weekday, local.weekday().to_sunday_zero_offset());
            let starred = day.0.starts_with('*') || weekday.0.starts_with('*');
            let days = if starred { of_month && of_week } else { of_month || of_week };
            has(&minute, local.minute()) && has(&hour, local.hour()) && has(&month, local.month())
                && days
        };
        prop_assert!(next.0 > after);
        prop_assert!(next.0.is_multiple_of(60_000) && fits(next.0));
        let mut minute = (after / 60_000 + 1) * 60_000;
        for _ in 0..100_000 {
            if minute >= next.0 { break; }
            prop_assert!(!fits(minute), "{minute} fits, {next:?} was found");
            minute += 60_000;
        }
    }

    /// In zones whose clocks change: times rise, and each shows what was asked for, but where the clocks jump.
    #[test]
    fn times_rise_where_clocks_change(
        minute in 0_u32..60, hour in 0_u32..24, after in 1_600_000_000_000_u64..2_500_000_000_000,
        zone in prop::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana",
            "Asia/Kolkata", "Africa/Casablanca",
        ]),
    ) {
        let schedule = Schedule::new(&format!("{minute} {hour} * * *"), zone).unwrap();
        let tz = ZONES.get(zone).unwrap();
        let mut last = Timestamp(after);
        for _ in 0..400 {
            let next = schedule.next(last).unwrap();
            prop_assert!(next > last);
            let at = jiff::Timestamp::from_millisecond(i64::try_from(next.0).unwrap()).unwrap();
            let local = tz.to_datetime(at);
            let shown = (u32::try_from(local.hour()).unwrap(), u32::try_from(local.minute()).unwrap());
            let jump = tz.preceding(at + SECOND).next().is_some_and(|jump| jump.timestamp() == at);
            prop_assert!(shown == (hour, minute) || jump, "{local} in {zone}");
            if last.0 != after {
                let apart = (next.0 - last.0) / 3_600_000;
                prop_assert!((21..=27).contains(&apart), "{apart} hours apart");
            }
            last = next;
        }
    }
}

const SECOND: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);
