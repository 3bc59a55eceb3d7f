//! Stacks whose functions have any names, as perf maps give them: each line of the folded form
//! is frames, a space and a number, whatever is in a name.
#![no_main]

use arbitrary::{Result, Unstructured};
use forktrace_core::{
    analysis::{Options, analyse_with},
    pipeline,
    render::Style,
    trace::{Born, Event, Finish, Frames, Interrupt, Stacks, Stretch, Timeout, Waker, Why},
    trace_file::TraceWriter,
};
use forktrace_export::{Form, Source};
use forktrace_fuzz::report;

fn frames(u: &mut Unstructured<'_>, number: u32) -> Result<Frames> {
    let count = u.int_in_range(0..=4)?;
    let mut frames = Vec::new();
    for _ in 0..count {
        let len = u.int_in_range(0..=9)?;
        frames.push(String::from_utf8_lossy(u.bytes(len)?).into_owned());
    }
    Ok(Frames {
        number,
        frames,
        cut_off: u.arbitrary()?,
        waits_in: u.arbitrary()?,
    })
}

fn stretch(seq: u32, start_ns: u64) -> Stretch {
    let out_ns = start_ns + u64::from(seq) * 3_000_000;
    Stretch {
        serial: 1,
        seq,
        out_ns,
        wake_ns: out_ns + 2_000_000,
        in_ns: out_ns + 2_000_001,
        why: Why::Interruptible,
        early_wake: false,
        no_wake: false,
        inferred: false,
        compat: false,
        syscall: 0,
        cpu_out: 0,
        cpu_in: 0,
        arg0: 0,
        arg1: 0,
        waker: Waker::Interrupt(Interrupt::Timer),
        object: 0,
        timeout: Timeout::None,
    }
}

fn number(u: &mut Unstructured<'_>) -> Result<Option<u32>> {
    Ok(Some(u.int_in_range(0..=7)?).filter(|_| u.ratio(4, 5).unwrap_or(true)))
}

fn events(u: &mut Unstructured<'_>, start_ns: u64, push: &mut dyn FnMut(Event)) -> Result<()> {
    let len = u.int_in_range(0..=9)?;
    push(Event::Born(Born {
        serial: 1,
        parent: 0,
        process: 1,
        tid: 1,
        tgid: 1,
        ppid: 1,
        clone_flags: 0,
        kernel_worker: false,
        at_ns: start_ns,
        comm: String::from_utf8_lossy(u.bytes(len)?).into_owned(),
    }));
    for seq in 0..6 {
        push(Event::Frames(frames(u, seq)?));
        push(Event::Stretch(stretch(seq, start_ns)));
        for waker in [Waker::None, Waker::Interrupt(Interrupt::Timer)] {
            push(Event::Stacks(Stacks {
                serial: 1,
                seq,
                waker,
                kernel: number(u)?,
                user: number(u)?,
                at_ns: 0,
            }));
        }
    }
    Ok(())
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let golden = include_bytes!("../../forktrace/tests/golden/version_3.ft");
    let info = forktrace_core::trace_file::read(golden, |_, _| ()).expect("it is a trace");
    let header = info.header;
    let mut file = Vec::new();
    let mut writer = TraceWriter::new(&mut file, &header).expect("a Vec takes it");
    let mut u = Unstructured::new(data);
    // What there is of them is as good as all.
    let _ = events(&mut u, header.start_ns, &mut |event| writer.push(&event));
    writer.finish(Finish {
        end_ns: header.start_ns + 30_000_000,
        ..Finish::default()
    });
    report(&file);
    let (info, model) = pipeline::read(&file, None).expect("it is a trace");
    let report = analyse_with(&info, &model, &Options::default());
    let source = Source {
        info: &info,
        model: &model,
        report: &report,
    };
    let mut folded = Vec::new();
    let export = Form::Folded.export(Style::PLAIN, None);
    export.write(&source, &mut folded).expect("a Vec takes it");
    for line in String::from_utf8(folded).expect("it is text").lines() {
        let number = line
            .rsplit_once(' ')
            .map(|(_, number)| number.parse::<u64>());
        assert!(matches!(number, Some(Ok(_))), "{line:?}");
    }
});
