//! Screens as golden files in `screens/`: `UPDATE_GOLDEN=1 cargo test … -p forktrace-top` writes
//! them.

use std::{fmt::Write as _, fs, path::Path};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use forktrace_core::{
    live::{By, Cause, Counts, GroupBy, Lasting, Row, Snapshot, Waiting},
    model::State,
    trace::ProviderKind,
};
use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::draw;
use crate::{
    ui::{Page, Sort, Ui},
    wire::Wish,
};

const MS: u64 = 1_000_000;

fn row(serial: u32, name: &str, role: &str, state: State) -> Row {
    Row {
        serial,
        tid: 4100 + serial,
        pid: 4101,
        name: name.to_owned(),
        process: "server".to_owned(),
        role: role.to_owned(),
        state,
        wait: None,
        waker: None,
        blocked: Vec::new(),
    }
}

fn wait(reason: &str, object: &str, ms: u64) -> Waiting {
    Waiting {
        for_ns: ms * MS,
        before: false,
        whole: true,
        reason: reason.to_owned(),
        object: object.to_owned(),
        cause: None,
        providers: None,
    }
}

fn cause(weight: u8, kind: &str) -> Option<Cause> {
    let kind = kind.to_owned();
    Some(Cause { weight, kind })
}

fn by(kind: ProviderKind, tasks: &[u32]) -> Option<By> {
    Some(By {
        kind,
        tasks: tasks.to_vec(),
        outside: false,
    })
}

fn counted(mut snapshot: Snapshot) -> Snapshot {
    let mut counts = Counts::default();
    for row in &snapshot.tasks {
        *match row.state {
            State::Running | State::Unknown => &mut counts.running,
            State::Runnable => &mut counts.runnable,
            State::Blocked => &mut counts.blocked,
            State::Stopped => &mut counts.stopped,
        } += 1;
    }
    snapshot.counts = counts;
    snapshot
}

/// Two wait for a mutex whose owner sleeps; the main thread has waited for events since before.
fn all_blocked() -> Snapshot {
    let mut main = row(1, "server", "server", State::Blocked);
    main.wait = Some(Waiting {
        before: true,
        whole: false,
        ..wait("epoll", "epoll (fd 4) of 3 fds", 12_300)
    });
    main.waker = Some((None, "the network".to_owned()));
    let mut sleeper = row(2, "worker-1", "server: worker", State::Blocked);
    sleeper.wait = Some(Waiting {
        cause: cause(6, "sleep"),
        ..wait("sleep", "for 2.50 s", 1_200)
    });
    sleeper.waker = Some((Some(1), "server (4101)".to_owned()));
    sleeper.blocked = vec![
        ("sleep".to_owned(), 7_000 * MS),
        ("futex".to_owned(), 3 * MS),
    ];
    let waits = |serial, ms| {
        let mut row = row(
            serial,
            &format!("worker-{}", serial - 1),
            "server: worker",
            State::Blocked,
        );
        row.wait = Some(Waiting {
            cause: cause(6, "sleep"),
            providers: by(ProviderKind::Owner, &[2]),
            ..wait("futex", "index_lock+0x8", ms)
        });
        row.waker = Some((Some(2), "worker-1 (4102)".to_owned()));
        row
    };
    counted(Snapshot {
        elapsed_ns: 12_345 * MS,
        seen: 4,
        all_blocked: Lasting {
            now_ns: 1_100 * MS,
            ns: 4_300 * MS,
            episodes: 7,
            longest_ns: 900 * MS,
        },
        tasks: vec![main, sleeper, waits(3, 1_100), waits(4, 1_150)],
        ..Snapshot::default()
    })
}

/// One of each state; two in a circle.
fn mixed() -> Snapshot {
    let lock = |serial: u32, of| {
        let mut row = row(serial, "locker", "server: locker", State::Blocked);
        row.wait = Some(Waiting {
            cause: cause(5, "lock"),
            providers: by(ProviderKind::Owner, &[of]),
            ..wait("futex", "0x7f01c0", 61_000)
        });
        row
    };
    let mut idle = row(5, "idle-1", "server: idle", State::Blocked);
    idle.wait = Some(wait("futex", "0x7f0200", 30));
    counted(Snapshot {
        elapsed_ns: 61_500 * MS,
        seen: 900,
        all_blocked: Lasting {
            ns: 600 * MS,
            episodes: 1,
            longest_ns: 600 * MS,
            now_ns: 0,
        },
        starved: Lasting {
            now_ns: 20 * MS,
            ns: 30 * MS,
            ..Lasting::default()
        },
        lost: 2,
        stuck: vec![vec![3, 4]],
        tasks: vec![
            row(1, "server", "server", State::Running),
            row(2, "worker-1", "server: worker", State::Runnable),
            lock(3, 4),
            lock(4, 3),
            idle,
            row(6, "tracee", "server: tracee", State::Stopped),
        ],
        ..Snapshot::default()
    })
}

/// Names that a terminal would act on, or that have no room.
fn hostile() -> Snapshot {
    let mut snapshot = all_blocked();
    for row in &mut snapshot.tasks {
        row.name = "a\u{1b}[31mb\n\u{202e}日本".to_owned();
        row.role = format!("{}\u{7}", "x".repeat(300));
        row.waker = Some((None, "\u{1b}]0;title\u{7} (1), outside".to_owned()));
        if let Some(wait) = &mut row.wait {
            wait.object = "/tmp/\r\u{9b}2J\u{0}é".to_owned();
        }
    }
    snapshot
}

fn ui() -> Ui {
    Ui {
        title: "server (pid 4101)".to_owned(),
        color: true,
        ..Ui::default()
    }
}

/// Draws once, with a look at each cell's colours where there are to be none.
fn drawn(snapshot: &Snapshot, ui: &mut Ui, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal
        .draw(|frame| draw(frame, snapshot, ui))
        .expect("memory");
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..width {
            let cell = &buffer[(x, y)];
            if !ui.color {
                assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            line.push_str(cell.symbol());
        }
        writeln!(text, "{}", line.trim_end()).expect("memory");
    }
    text
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("screens/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name}:\n{text}\nbut it was\n{expected}");
}

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

#[test]
fn screens_are_as_they_were() {
    golden("all-blocked-80", &drawn(&all_blocked(), &mut ui(), SMALL));
    golden("all-blocked-120", &drawn(&all_blocked(), &mut ui(), LARGE));
    golden("mixed-80", &drawn(&mixed(), &mut ui(), SMALL));
    let page = |page| Ui { page, ..ui() };
    golden(
        "graph-80",
        &drawn(&all_blocked(), &mut page(Page::Graph), SMALL),
    );
    golden("circle-80", &drawn(&mixed(), &mut page(Page::Graph), SMALL));
    golden(
        "task-80",
        &drawn(&all_blocked(), &mut page(Page::Task(3)), SMALL),
    );
    golden(
        "stuck-80",
        &drawn(&mixed(), &mut page(Page::Task(4)), SMALL),
    );
    golden("help-80", &drawn(&mixed(), &mut page(Page::Help), SMALL));
    let mut filtered = Ui {
        filter: "lock".to_owned(),
        typing: true,
        paused: true,
        by: GroupBy::Process,
        sort: Sort::Tid,
        ..ui()
    };
    golden("filtered-80", &drawn(&mixed(), &mut filtered, SMALL));
    golden("nothing-80", &drawn(&Snapshot::default(), &mut ui(), SMALL));
}

/// Each state is a word: without colour nothing is missing but the colour.
#[test]
fn without_colour_the_same_is_said() {
    for snapshot in [all_blocked(), mixed()] {
        let plain = |color| drawn(&snapshot, &mut Ui { color, ..ui() }, SMALL);
        assert_eq!(plain(false), plain(true));
    }
    let text = drawn(
        &mixed(),
        &mut Ui {
            color: false,
            ..ui()
        },
        SMALL,
    );
    for word in ["run ", "want", "block", "stop", "CAN'T GO ON"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_locale_without_utf_8_gets_ascii() {
    let pages = [Page::Tasks, Page::Graph, Page::Task(1), Page::Help];
    for (snapshot, page) in [all_blocked(), hostile()]
        .iter()
        .flat_map(|it| pages.map(|page| (it, page)))
    {
        let mut ui = Ui {
            ascii: true,
            page,
            ..ui()
        };
        let text = drawn(snapshot, &mut ui, SMALL);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn what_names_hold_never_acts() {
    for page in [Page::Tasks, Page::Graph, Page::Task(2)] {
        let mut ui = Ui {
            title: "\u{1b}c".to_owned(),
            message: "\u{1b}[2J".to_owned(),
            page,
            ..ui()
        };
        let text = drawn(&hostile(), &mut ui, LARGE);
        let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(acts), "{text:?}");
        assert!(text.contains("\\x1bc"), "{text}");
    }
    let text = drawn(&hostile(), &mut ui(), SMALL);
    assert!(text.contains("xxx…"), "{text}");
}

/// Whatever the size is, and wherever one is, it is drawn.
#[test]
fn any_size_is_drawn() {
    for width in [1, 20, 40, 60, 200] {
        for height in [1, 9, 10, 11, 60] {
            for page in [
                Page::Tasks,
                Page::Graph,
                Page::Task(3),
                Page::Task(99),
                Page::Help,
            ] {
                for snapshot in [mixed(), hostile(), Snapshot::default()] {
                    let mut ui = Ui {
                        page,
                        chosen: usize::MAX,
                        first: 7,
                        ..ui()
                    };
                    drawn(&snapshot, &mut ui, (width, height));
                }
            }
        }
    }
}

fn press(ui: &mut Ui, snapshot: &Snapshot, keys: &[KeyCode]) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for code in keys {
        let key = KeyEvent::new(*code, KeyModifiers::NONE);
        wishes.extend(ui.key(key, snapshot));
        drawn(snapshot, ui, SMALL);
    }
    wishes
}

#[test]
fn keys_choose_what_is_shown() {
    use KeyCode::{Backspace, Char, Down, End, Enter, Esc};
    let snapshot = all_blocked();
    let mut ui = ui();
    let wishes = press(&mut ui, &snapshot, &[Char('s'), Char('q')]);
    assert_eq!(wishes, [Wish::Save, Wish::Quit]);
    // The first is the longest of those that matter, then the next.
    press(&mut ui, &snapshot, &[Down, Enter]);
    assert_eq!(ui.page, Page::Task(4));
    press(&mut ui, &snapshot, &[Esc, Char('w'), End, Enter]);
    assert_eq!(ui.page, Page::Task(4), "the last who waits");
    press(&mut ui, &snapshot, &[Esc]);
    assert_eq!(ui.page, Page::Graph);
    press(&mut ui, &snapshot, &[Char('?'), Char('?'), Esc]);
    assert_eq!(ui.page, Page::Tasks);
    // What is typed is a filter, not a key.
    let typed = [
        Char('/'),
        Char('q'),
        Backspace,
        Char('E'),
        Char('p'),
        Char('o'),
        Enter,
    ];
    assert!(press(&mut ui, &snapshot, &typed).is_empty());
    let shown: Vec<u32> = ui.rows(&snapshot).iter().map(|row| row.serial).collect();
    assert_eq!((&*ui.filter, &shown[..]), ("Epo", &[1][..]));
    press(&mut ui, &snapshot, &[Esc, Char('p'), Char('g'), Char('o')]);
    assert_eq!(
        (&*ui.filter, ui.paused, ui.by, ui.sort),
        ("", true, GroupBy::Process, Sort::Longest)
    );
}

/// A list that is longer than the page follows what is chosen.
#[test]
fn a_long_list_is_scrolled() {
    let mut snapshot = all_blocked();
    for serial in 5..500 {
        snapshot.tasks.push(row(
            serial,
            &format!("task-{serial}"),
            "server: task",
            State::Running,
        ));
    }
    let mut ui = Ui {
        sort: Sort::Tid,
        ..ui()
    };
    press(&mut ui, &snapshot, &[KeyCode::End]);
    let text = drawn(&snapshot, &mut ui, SMALL);
    assert!(text.contains("4599") && !text.contains("4101 "), "{text}");
    press(&mut ui, &snapshot, &[KeyCode::Home]);
    let text = drawn(&snapshot, &mut ui, SMALL);
    assert!(text.contains("4101 ") && !text.contains("4599"), "{text}");
}
