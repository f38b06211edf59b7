use std::time::Duration;

use super::Backoff;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn waits_double_from_the_base_to_the_cap_and_start_again_after_a_success() {
    let mut backoff = Backoff::new(ms(100), ms(700));
    let waits: Vec<_> = (0..6).map(|_| backoff.next(0)).collect();
    assert_eq!(waits, [100, 200, 400, 700, 700, 700].map(ms));
    assert_eq!(backoff.failures(), 6);
    backoff.reset();
    assert_eq!((backoff.failures(), backoff.next(0)), (0, ms(100)));
}

#[test]
fn another_factor_widens_faster_or_not_at_all() {
    let waits = |factor| {
        let mut backoff = Backoff::new(ms(10), ms(1000)).with_factor(factor);
        [0; 4].map(|_| backoff.next(0))
    };
    assert_eq!(waits(3), [10, 30, 90, 270].map(ms));
    assert_eq!(waits(1), [10; 4].map(ms));
    assert_eq!(waits(0), [10; 4].map(ms));
}

#[test]
fn chance_adds_up_to_a_quarter_and_never_shortens() {
    for chance in [0, 1, 7, u64::from(u32::MAX), u64::MAX] {
        let mut backoff = Backoff::new(ms(100), ms(800));
        for plain in [100, 200, 400, 800, 800] {
            let wait = backoff.next(chance);
            assert!(wait >= ms(plain) && wait <= ms(plain) * 5 / 4, "{wait:?}");
        }
    }
    let mut backoff = Backoff::new(ms(100), ms(800));
    assert_eq!(backoff.next(25_000_000), ms(125));
}

#[test]
fn nothing_overflows_after_any_number_of_failures() {
    for (base, cap) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::MAX, Duration::MAX / 2),
        (ms(1), Duration::MAX / 2),
        (ms(100), ms(1)),
    ] {
        let mut backoff = Backoff::new(base, cap);
        for failures in [0, 1, 2, 31, 32, 33, 64, u32::MAX] {
            assert!(backoff.after(failures, 0) <= cap);
        }
        backoff.failures = u32::MAX;
        assert!(backoff.next(u64::MAX) <= cap + cap / 4);
    }
}
