//! Naps in a function of a module, and lives on for a while so that it can be looked at.

use std::{hint::black_box, thread::sleep, time::Duration};

mod shop {
    use super::{Duration, black_box, sleep};

    #[inline(never)]
    pub fn nap() {
        sleep(black_box(Duration::from_millis(30)));
        black_box(());
    }

    #[inline(never)]
    pub fn rest(times: u32) {
        for _ in 0..times {
            nap();
        }
        black_box(());
    }
}

fn main() {
    shop::rest(black_box(5));
    sleep(Duration::from_secs(1));
}
