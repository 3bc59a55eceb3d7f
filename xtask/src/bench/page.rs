//! What the command prints: Markdown whose tables also read well as they are.

use std::fmt::Write as _;

/// The middle and the ends of a row of figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` when there are no figures.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[half - 1], figures[half])
        } else {
            figures[half]
        };
        Some(Self { median, min, max })
    }

    /// `1.91 (1.88 to 2.05)`
    pub(super) fn show(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    }
}

/// Rows of cells below a heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
        Self {
            rows: vec![heading],
        }
    }

    /// Adds a row. Cells that it lacks at its end stay empty.
    pub(super) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.rows[0].len(), String::new());
        for cell in &mut cells {
            *cell = cell.replace('|', "\\|");
        }
        self.rows.push(cells);
    }

    /// Whether there is nothing but the heading.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table as Markdown, its columns aligned.
    pub(super) fn markdown(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).filter_map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a string does not fail.
                let _ = write!(text, "| {cell:width$} ");
            }
            text += "|\n";
            if index == 0 {
                for width in &widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text += "|\n";
            }
        }
        text
    }
}

/// A figure that the project has a goal for.
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) measured: String,
    pub(super) goal: String,
    /// `None` when the figures don't tell.
    pub(super) met: Option<bool>,
}

/// A part of the page.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// What was done.
    pub(super) text: String,
    pub(super) table: Option<Table>,
    pub(super) goals: Vec<Goal>,
}

impl Section {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n{}\n", self.title, self.text);
        if let Some(table) = &self.table {
            text += "\n";
            text += &table.markdown();
        }
        let mut goals = Table::new(&["figure", "measured", "goal", ""]);
        for goal in &self.goals {
            let met = match goal.met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "can't tell",
            };
            goals.row(vec![
                goal.what.clone(),
                goal.measured.clone(),
                goal.goal.clone(),
                met.to_owned(),
            ]);
        }
        if !goals.is_empty() {
            text += "\n";
            text += &goals.markdown();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied()).unwrap();
        assert_eq!(spread(&[3.0, 1.0, 8.0]).show(1), "3.0 (1.0 to 8.0)");
        assert_eq!(spread(&[3.0, 1.0, 8.0, 4.0]).median, 3.5);
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["tool", "µs"]);
        table.row(vec!["a|b".to_owned()]);
        table.row(vec!["c".to_owned(), "1.25".to_owned()]);
        assert_eq!(
            table.markdown(),
            "| tool | µs   |\n|------|------|\n| a\\|b |      |\n| c    | 1.25 |\n"
        );
    }
}
