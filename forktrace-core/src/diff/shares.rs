//! Means that add up.
//!
//! A mean of whole nanoseconds is rounded down, and so are those of its parts; what is lacking
//! then, less than a nanosecond a part, goes to the parts that lost most (the method of the
//! largest remainder). So the parts of a mean add up to the mean, and a part is never off by
//! more than a nanosecond.

use std::cmp::Reverse;

/// The mean, rounded down.
pub fn mean(values: &[u64]) -> u64 {
    let sum: u128 = values.iter().map(|ns| u128::from(*ns)).sum();
    (sum / values.len().max(1) as u128) as u64
}

/// The mean of each part, whose values are given by run. They add up to the mean of the sums.
pub(super) fn means(parts: &[&[u64]]) -> Vec<u64> {
    let runs = parts.first().map_or(1, |part| part.len()).max(1) as u128;
    let sums = parts
        .iter()
        .map(|part| part.iter().map(|ns| u128::from(*ns)).sum::<u128>());
    let sums: Vec<u128> = sums.collect();
    let mut means: Vec<u64> = sums.iter().map(|sum| (sum / runs) as u64).collect();
    let whole = sums.iter().sum::<u128>() / runs;
    let lacking = whole - means.iter().map(|ns| u128::from(*ns)).sum::<u128>();
    let mut by_loss: Vec<usize> = (0..parts.len()).collect();
    by_loss.sort_by_key(|at| (Reverse(sums[*at] % runs), *at));
    for at in by_loss.into_iter().take(lacking as usize) {
        means[at] += 1;
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_mean_add_up_to_it() {
        assert_eq!(means(&[&[1, 0, 0], &[1, 1, 0], &[0, 0, 1]]), [0, 1, 0]);
        assert_eq!(means(&[&[1, 2], &[2, 1]]), [2, 1]);
        assert_eq!(means(&[]), [0u64; 0]);
        assert_eq!(mean(&[1, 2]), 1);
        assert_eq!(mean(&[u64::MAX, u64::MAX]), u64::MAX);
    }
}
