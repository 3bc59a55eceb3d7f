//! A flame graph: stacks as boxes, as wide as the time that was spent blocked in them.
//!
//! By hand: the crate that draws these, inferno, is under the CDDL, which asks for more than
//! the licences that we take.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use forktrace_core::report::words::{duration, percent};

use crate::{
    Export, Source,
    stacks::{Stack, StackKind, fold},
    text::clean,
};

/// See the module.
pub(crate) struct FlameGraph {
    pub(crate) kind: Option<StackKind>,
}

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 18.0;
const TOP: f64 = 48.0;
/// As wide as a letter.
const LETTER: f64 = 6.6;
/// What is thinner, in pixels, is left out: a text in it could not be read either.
const LEAST: f64 = 0.2;

/// Zooms into the box that is clicked, or chosen by the keyboard.
const SCRIPT: &str = include_str!("flame.js");

#[derive(Default)]
struct Node {
    ns: u64,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, frames: &[String], ns: u64) {
        self.ns = self.ns.saturating_add(ns);
        if let Some((first, rest)) = frames.split_first() {
            self.children
                .entry(first.clone())
                .or_default()
                .add(rest, ns);
        }
    }

    fn depth(&self) -> usize {
        1 + self.children.values().map(Self::depth).max().unwrap_or(0)
    }
}

impl Export for FlameGraph {
    fn write(&self, source: &Source<'_>, out: &mut dyn Write) -> io::Result<()> {
        let argv = source.report.workload.argv.iter().map(|arg| clean(arg));
        let argv: Vec<String> = argv.collect();
        draw(&fold(source, self.kind), &argv.join(" "), out)
    }
}

fn draw(stacks: &[Stack], title: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut root = Node::default();
    for stack in stacks {
        root.add(&stack.frames, stack.ns);
    }
    let height = TOP + ROW * root.depth() as f64 + MARGIN;
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"monospace\" font-size=\"11\">\n\
         <style>rect{{stroke:#fff;stroke-width:.5}} g:hover rect,g:focus rect{{stroke:#000}} \
         g{{outline:none;cursor:pointer}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\" font-size=\"14\">Time blocked: {}</text>\n\
         <text id=\"said\" x=\"{MARGIN}\" y=\"38\">{} in all; a box is as wide as its part of it</text>",
        escaped(title),
        duration(root.ns)
    )?;
    let mut drawing = Drawing {
        out,
        scale: (WIDTH - 2.0 * MARGIN) / root.ns.max(1) as f64,
        total_ns: root.ns,
        height,
    };
    drawing.node("all", &root, 0, 0)?;
    writeln!(
        drawing.out,
        "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>"
    )
}

struct Drawing<'a> {
    out: &'a mut dyn Write,
    /// Pixels a nanosecond.
    scale: f64,
    total_ns: u64,
    height: f64,
}

impl Drawing<'_> {
    /// A box, and those above it. `left_ns`: where it begins.
    fn node(&mut self, name: &str, node: &Node, depth: usize, left_ns: u64) -> io::Result<()> {
        let width = node.ns as f64 * self.scale;
        if width < LEAST {
            return Ok(());
        }
        let x = MARGIN + left_ns as f64 * self.scale;
        let y = self.height - MARGIN - ROW * (depth + 1) as f64;
        let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
        writeln!(
            self.out,
            "<g tabindex=\"0\"><title>{} ({}, {})</title><rect x=\"{x:.2}\" y=\"{y:.1}\" \
             width=\"{width:.2}\" height=\"{:.1}\" fill=\"{}\"/><text x=\"{:.2}\" y=\"{:.1}\">{}</text></g>",
            escaped(name),
            duration(node.ns),
            // Of little of it, it says `<0.1 %`.
            escaped(&percent(node.ns, self.total_ns)),
            ROW - 1.0,
            colour(name),
            x + 3.0,
            y + 13.0,
            escaped(&fitting(name, letters)),
        )?;
        let mut left_ns = left_ns;
        for (name, child) in &node.children {
            self.node(name, child, depth + 1, left_ns)?;
            left_ns += child.ns;
        }
        Ok(())
    }
}

/// As much of a name as has room.
fn fitting(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    if letters < 4 {
        return String::new();
    }
    name.chars().take(letters - 2).chain("..".chars()).collect()
}

/// A shade of blue, as off-CPU flame graphs have it; the same for the same name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(0_u32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    let (a, b) = (hash % 50, hash / 50 % 40);
    format!("rgb({},{},{})", 120 + a, 170 + b, 225 + a / 2)
}

/// Inside XML. What XML has no way to write is escaped before, by `clean`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &[&str], ns: u64) -> Stack {
        Stack {
            frames: frames.iter().map(|&frame| frame.to_owned()).collect(),
            ns,
        }
    }

    #[test]
    fn boxes_are_as_wide_as_their_part_and_names_do_no_harm() {
        let stacks = [
            stack(&["a", "</title><script>x"], 300),
            stack(&["a"], 100),
            stack(&["b"], 600),
        ];
        let mut out = Vec::new();
        draw(&stacks, "\"t\" & co", &mut out).expect("memory");
        let svg = String::from_utf8(out).expect("text");
        assert!(
            svg.contains("<title>b (600 ns, 60.0 %)</title><rect x=\"482.00\""),
            "{svg}"
        );
        assert!(svg.contains("width=\"708.00\""), "{svg}");
        assert!(
            svg.contains("&lt;/title&gt;&lt;script&gt;x (300 ns, 30.0 %)"),
            "{svg}"
        );
        assert!(svg.contains("&quot;t&quot; &amp; co"), "{svg}");
        assert_eq!(svg.matches("<script").count(), 1, "{svg}");
    }

    /// What is between `>` and `<`, or in an attribute, has neither.
    #[test]
    fn a_share_of_next_to_nothing_is_well_formed() {
        let mut out = Vec::new();
        draw(
            &[stack(&["a"], 1_000_000), stack(&["b"], 300)],
            "",
            &mut out,
        )
        .expect("memory");
        let svg = String::from_utf8(out).expect("text");
        assert!(
            svg.contains("<title>b (300 ns, &lt;0.1 %)</title>"),
            "{svg}"
        );
        assert!(
            svg.contains("<title>a (1.00 ms, &gt;99.9 %)</title>"),
            "{svg}"
        );
    }

    #[test]
    fn a_run_without_waits_is_one_box() {
        let mut out = Vec::new();
        draw(&[], "", &mut out).expect("memory");
        let svg = String::from_utf8(out).expect("text");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
