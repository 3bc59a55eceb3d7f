//! How much of a difference of means is chance.
//!
//! Welch's interval ("The generalization of Student's problem when several different
//! population variances are involved", Biometrika 34, 1947): the difference of the means, give
//! or take the quantile of Student's distribution times the standard error, where the two
//! sides may spread differently. Means are compared, and not medians, since only means add up.
//! One run says nothing about chance, so there is no interval then.

/// How sure an interval is.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Quantiles of Student's distribution at 0.975, by degrees of freedom (any table, such as
/// NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
const QUANTILES: [(f64, f64); 35] = [
    (1.0, 12.7062),
    (2.0, 4.3027),
    (3.0, 3.1824),
    (4.0, 2.7764),
    (5.0, 2.5706),
    (6.0, 2.4469),
    (7.0, 2.3646),
    (8.0, 2.3060),
    (9.0, 2.2622),
    (10.0, 2.2281),
    (11.0, 2.2010),
    (12.0, 2.1788),
    (13.0, 2.1604),
    (14.0, 2.1448),
    (15.0, 2.1314),
    (16.0, 2.1199),
    (17.0, 2.1098),
    (18.0, 2.1009),
    (19.0, 2.0930),
    (20.0, 2.0860),
    (21.0, 2.0796),
    (22.0, 2.0739),
    (23.0, 2.0687),
    (24.0, 2.0639),
    (25.0, 2.0595),
    (26.0, 2.0555),
    (27.0, 2.0518),
    (28.0, 2.0484),
    (29.0, 2.0452),
    (30.0, 2.0423),
    (40.0, 2.0211),
    (60.0, 2.0003),
    (80.0, 1.9901),
    (100.0, 1.9840),
    (120.0, 1.9799),
];

/// By how much the difference of the two means can be off, ns; `None`: a side has fewer than
/// two values.
pub(super) fn half_width(base: &[u64], new: &[u64]) -> Option<u64> {
    let (a, b) = (spread(base)?, spread(new)?);
    let error = (a.of_mean + b.of_mean).sqrt();
    if error == 0.0 {
        return Some(0);
    }
    // Welch and Satterthwaite.
    let squares = a.of_mean.powi(2) / a.freedom + b.of_mean.powi(2) / b.freedom;
    let freedom = (a.of_mean + b.of_mean).powi(2) / squares;
    // Between two rows the wider one; it is never less than the smaller side's.
    let row = QUANTILES.iter().rev().find(|(df, _)| *df <= freedom + 1e-9);
    let (_, quantile) = row.unwrap_or(&QUANTILES[0]);
    Some((quantile * error).ceil() as u64)
}

struct Spread {
    /// The variance of the mean.
    of_mean: f64,
    freedom: f64,
}

fn spread(values: &[u64]) -> Option<Spread> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let (variance, _) = variance(values);
    Some(Spread {
        of_mean: variance / n,
        freedom: n - 1.0,
    })
}

/// The variance of a sample, and its mean.
fn variance(values: &[u64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|x| *x as f64).sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (*x as f64 - mean).powi(2)).sum();
    (squares / (n - 1.0).max(1.0), mean)
}

/// The standard deviation of a sample, ns; `None` of fewer than two values.
pub fn deviation(values: &[u64]) -> Option<u64> {
    (values.len() > 1).then(|| variance(values).0.sqrt().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    /// By hand: variances 1/3 of each mean, 4 degrees of freedom, 2.7764 × √(2/3).
    #[test]
    fn the_interval_is_that_of_the_textbook() {
        let million = 1_000_000;
        let base = [9 * million, 10 * million, 11 * million];
        let new = [19 * million, 20 * million, 21 * million];
        assert_eq!(half_width(&base, &new), Some(2_266_922));
    }

    #[test]
    fn one_run_has_none_and_runs_that_are_alike_have_no_width() {
        assert_eq!(half_width(&[5], &[5, 6]), None);
        assert_eq!(half_width(&[5, 5], &[7, 7]), Some(0));
        assert_eq!(deviation(&[5]), None);
        assert_eq!(deviation(&[1, 3]), Some(1));
    }

    /// The true difference of two normal samples of three to five runs, of which one spreads
    /// three times as much, is in 95 % of the intervals.
    #[test]
    fn it_holds_the_true_difference_as_often_as_it_says() {
        let mut random = SplitMix(7);
        // A sum of twelve uniform numbers is near enough.
        let mut normal = |mean: f64, sd: f64| {
            let sum: f64 = (0..12).map(|_| random.below(1 << 53) as f64).sum();
            let z = sum / (1u64 << 53) as f64 - 6.0;
            (mean + sd * z) as u64
        };
        let rounds = 4000;
        let mut held = 0;
        for _ in 0..rounds {
            let base: Vec<u64> = (0..3).map(|_| normal(1e9, 1e7)).collect();
            let new: Vec<u64> = (0..5).map(|_| normal(1.2e9, 3e7)).collect();
            let delta = variance(&new).1 - variance(&base).1;
            let half = half_width(&base, &new).expect("an interval") as f64;
            held += usize::from((delta - 2e8).abs() <= half);
        }
        let share = held as f64 / f64::from(rounds);
        assert!((0.94..0.98).contains(&share), "{share}");
    }
}
