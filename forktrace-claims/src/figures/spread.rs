//! One measure over several runs.

use serde_json::{Value, json};

use crate::expression::{json_number, quantile_of};

/// One measure over several runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Spread {
    /// Numbers: the median and an interval for it.
    Numbers {
        /// In ascending order.
        sorted: Vec<f64>,
    },
    /// Anything else: as it came.
    Other(Vec<Value>),
}

/// The least probability with which an interval holds the true median.
const CONFIDENCE: f64 = 0.95;

impl Spread {
    /// Over these values.
    pub fn of<'a>(values: impl Iterator<Item = &'a Value>) -> Self {
        let values: Vec<Value> = values.cloned().collect();
        let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
        match numbers {
            Some(mut sorted) if !sorted.is_empty() => {
                sorted.sort_by(f64::total_cmp);
                Self::Numbers { sorted }
            }
            _ => Self::Other(values),
        }
    }

    /// As a variable of the predicates.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Numbers { sorted } => {
                let (low, high) = median_interval(sorted);
                let values: Vec<Value> = sorted.iter().map(|&x| json_number(x)).collect();
                json!({
                    "value": json_number(quantile_of(sorted, 0.5)),
                    "low": json_number(low),
                    "high": json_number(high),
                    "min": values.first(),
                    "max": values.last(),
                    "n": values.len(),
                    "values": values,
                })
            }
            Self::Other(values) => json!({
                "value": values.first(),
                "n": values.len(),
                "values": values,
            }),
        }
    }
}

/// An interval for the median that assumes nothing about the distribution: from
/// the k-th smallest to the k-th largest value holds the true median with the
/// probability 1 - 2 P(B < k), B binomial with n and 1/2 (David and Nagaraja,
/// "Order Statistics", 2003, section 7.1). The largest k for 95 % is taken; with
/// fewer than 6 values there is none, and it is from the smallest to the largest
/// value: 50 % for 2, 75 % for 3, 94 % for 5.
pub(super) fn median_interval(sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len();
    let mut k = 1;
    while k < n.div_ceil(2) && 1.0 - 2.0 * below(n, k + 1) >= CONFIDENCE {
        k += 1;
    }
    (sorted[k - 1], sorted[n - k])
}

/// P(B < k), B binomial with n and 1/2.
fn below(n: usize, k: usize) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = 0.0;
    for i in 0..k {
        sum += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks of published tables: Conover, "Practical Nonparametric
    /// Statistics", and others that agree.
    #[test]
    fn the_interval_of_the_median_has_the_ranks_of_the_tables() {
        for (n, k) in [
            (1, 1),
            (2, 1),
            (3, 1),
            (5, 1),
            (6, 1),
            (8, 1),
            (9, 2),
            (11, 2),
            (12, 3),
            (15, 4),
            (20, 6),
            (25, 8),
        ] {
            let sorted: Vec<f64> = (1..=n).map(f64::from).collect();
            let expected = (f64::from(k), f64::from(n + 1 - k));
            assert_eq!(median_interval(&sorted), expected, "n = {n}");
        }
    }

    #[test]
    fn the_binomial_sums_to_one() {
        for n in [1, 2, 7, 30] {
            assert!((below(n, n + 1) - 1.0).abs() < 1e-12);
            assert!((below(n, 1) - 0.5f64.powi(n as i32)).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_no_number_stays_as_it_is() {
        let values = [json!("a"), json!("b")];
        assert_eq!(
            Spread::of(values.iter()).to_json(),
            json!({"value": "a", "n": 2, "values": ["a", "b"]})
        );
        let values = [json!(3), json!(1), json!(2.5)];
        let spread = Spread::of(values.iter()).to_json();
        assert_eq!(
            spread,
            json!({"value": 2.5, "low": 1, "high": 3, "min": 1, "max": 3, "n": 3, "values": [1, 2.5, 3]})
        );
    }
}
