//! A task that blocks the thread of tokio's runtime, beside one that ticks.

use std::{env, time::Duration, time::Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = env::args()
        .skip(1)
        .map(|it| it.parse::<u64>().expect("a number"));
    let (times, ms) = (numbers.next().unwrap_or(4), numbers.next().unwrap_or(400));
    let ticks = tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut slept = Duration::ZERO;
    for _ in 0..times {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begin = Instant::now();
        std::thread::sleep(Duration::from_millis(ms));
        slept += begin.elapsed();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    ticks.abort();
    println!("slept {:.3} ms", slept.as_secs_f64() * 1e3);
}
