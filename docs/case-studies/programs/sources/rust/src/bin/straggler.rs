//! A parallel loop of rayon in which one item takes far longer than all others.

use std::{hint::black_box, time::Duration, time::Instant};

use rayon::prelude::*;

fn busy(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        black_box(());
    }
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4);
    let pool = pool
        .thread_name(|i| format!("rayon-{i}"))
        .build()
        .expect("a pool");
    for _ in 0..4 {
        let begin = Instant::now();
        pool.install(|| {
            (0..16).into_par_iter().with_max_len(1).for_each(|item| {
                busy(Duration::from_millis(if item == 7 { 400 } else { 2 }));
            });
        });
        println!("loop {:.3} ms", begin.elapsed().as_secs_f64() * 1e3);
    }
}
