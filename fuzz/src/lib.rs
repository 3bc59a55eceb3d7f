//! What the targets share: a whole trace from the bytes of its blocks, and all that is made
//! of it.

use forktrace_core::{
    analysis::{Options, analyse_with},
    pipeline,
    render::{Format, Style, render},
    trace_file::{
        OLDEST_VERSION, VERSION,
        container::{BlockInfo, BlockWriter},
    },
};
use forktrace_export::{Form, Rollup, Source, tables};

/// The first block of `forktrace/tests/golden/version_3.ft`, unpacked: a header.
pub fn header() -> Vec<u8> {
    let golden = include_bytes!("../../forktrace/tests/golden/version_3.ft");
    let mut payload = Vec::new();
    let blocks = forktrace_core::trace_file::container::blocks(golden, OLDEST_VERSION..=VERSION);
    let mut blocks = blocks.expect("it is a trace");
    blocks.read_next(&mut payload);
    payload
}

/// A file of these blocks, each a kind and a payload, with right checksums.
pub fn file_of(version: u32, blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut writer = BlockWriter::new(Vec::new(), version).expect("a Vec takes it");
    for (kind, payload) in blocks {
        let info = BlockInfo {
            kind: *kind,
            records: 1,
            first_ns: 0,
            last_ns: 0,
        };
        writer.append(&info, payload).expect("a Vec takes it");
    }
    writer.into_inner()
}

/// Reads a trace and shows it in every way. What comes out is for people: no character of it
/// acts on a terminal, and no line of the text is wider than a page.
pub fn report(file: &[u8]) {
    let Ok((info, model)) = pipeline::read(file, None) else {
        return;
    };
    let report = analyse_with(&info, &model, &Options::default());
    for (verbose, columns) in [(false, 72), (false, 100), (true, 80)] {
        let style = Style {
            verbose,
            columns,
            ..Style::PLAIN
        };
        for format in [Format::Text, Format::Json, Format::Dot] {
            let shown = render(&report, format, &style);
            let acts = |c: char| c != '\n' && c.is_control();
            assert!(!shown.contains(acts), "{format:?}: {shown}");
        }
    }
    let source = Source {
        info: &info,
        model: &model,
        report: &report,
    };
    // One that seems to last for years is taken, and takes long.
    let ends = model.tasks.iter().map(|task| task.end_ns);
    if ends.max() < Some(86_400_000_000_000) {
        let written = tables::write(&source, &mut |_| Ok(Box::new(std::io::sink())));
        written.expect("it takes all");
        let _ = Rollup::default().add(&source, "host");
    }
    // One of them each time: all together would be slow.
    let form = FORMS[file.len() % FORMS.len()];
    let mut written = Vec::new();
    let export = form.export(Style::PLAIN, None);
    export.write(&source, &mut written).expect("a Vec takes it");
    if !matches!(form, Form::Perfetto | Form::Pprof) {
        let text = String::from_utf8(written).expect("it is text");
        let acts = |c: char| c != '\n' && c.is_control();
        assert!(!text.contains(acts), "{form:?}: {text}");
    }
    let audit = &report.audit;
    assert!(
        !audit.complete || audit.unknown_ns == 0 && audit.tasks_not_followed == 0,
        "{audit:?}"
    );
}

/// What [`render`] does not write.
const FORMS: [Form; 7] = [
    Form::Html,
    Form::Perfetto,
    Form::Firefox,
    Form::Pprof,
    Form::Folded,
    Form::Svg,
    Form::Ndjson,
];
