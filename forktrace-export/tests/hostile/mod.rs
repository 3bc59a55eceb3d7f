//! Saved traces, as they are and with names that mean harm.

use std::path::Path;

use forktrace_core::{
    analysis::analyse,
    model::Model,
    pipeline,
    report::{Object, Report},
    trace::FileKind,
    trace_file::TraceInfo,
};

/// A trace that was read.
pub(crate) struct Read {
    pub(crate) info: TraceInfo,
    pub(crate) model: Model,
    pub(crate) report: Report,
}

/// A saved trace.
pub(crate) fn read(name: &str) -> Read {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../forktrace/tests/golden");
    let data = std::fs::read(folder.join(name).with_extension("ft")).expect("a saved trace");
    let (info, model) = pipeline::read(&data, None).expect("a trace");
    let report = analyse(&info, &model);
    Read {
        info,
        model,
        report,
    }
}

/// What a terminal, a shell, a page or a format might take for more than a name.
pub(crate) const EVIL: &str = "\u{1b}[31m\u{7}\"'`;<b>&\\ </script><img src=x onerror=pwned=1><!-- ]]> \u{202e}\u{2066}\u{feff}\n\r\t\u{0}{}%s";

/// One of which every name means harm.
pub(crate) fn hostile() -> Read {
    let mut read = read("select_and_compute");
    for task in &mut read.model.tasks {
        task.name = EVIL.to_owned();
        task.argv = vec![EVIL.to_owned()];
    }
    for outsider in &mut read.model.outsiders {
        outsider.comm = EVIL.to_owned();
    }
    read.info.header.argv = vec![EVIL.to_owned(); 2];
    read.info.header.kernel = EVIL.to_owned();
    for (_, name) in &mut read.info.header.interrupts {
        *name = EVIL.to_owned();
    }
    for file in &mut read.model.files {
        file.kind = Some(FileKind::File(EVIL.to_owned()));
    }
    read.report = analyse(&read.info, &read.model);
    read.report.findings[0].sentence = EVIL.to_owned();
    read.report.findings[0].object = Some(Object {
        kind: EVIL.to_owned(),
        id: EVIL.to_owned(),
        name: EVIL.to_owned(),
    });
    read
}
