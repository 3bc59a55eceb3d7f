use super::{super::frames::GONE, *};

#[test]
fn a_name_is_given_to_each_stack_that_waited_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map");
    std::fs::write(&path, "100 10 made\n").expect("a file");
    let mut symbols = Symbols::knowing_nothing(false);
    let of = Of::Process(std::process::id(), 0);
    let known = [(0x105, Name::None), (0x205, named("main"))];
    let known = known.map(|(address, name)| ((of, address), name));
    symbols.names.extend(known);
    let mut told = Told::from(PerfMap::in_file(path));
    let unnamed = |number| Unnamed {
        number,
        walk: walk(&[0x105, 0x205]),
        missing: 1,
    };
    told.unnamed = vec![unnamed(0), unnamed(1)];
    symbols.processes.insert(of, told);

    let named = symbols.answer(Question::Again(true));
    assert!(symbols.processes[&of].unnamed.is_empty());
    let named: Vec<Frames> = named.frames.into_iter().map(|(frames, _)| frames).collect();
    let numbers: Vec<u32> = named.iter().map(|frames| frames.number).collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(named[0].frames, ["made", "main"]);
}

#[test]
fn a_stack_that_begins_where_there_is_no_code_is_of_a_program_that_is_gone() {
    let mut symbols = Symbols::knowing_nothing(false);
    let of = Of::Process(7, 1);
    symbols.names.insert((of, 1), Name::NoCode);
    symbols.names.insert((of, 2), named("main"));
    assert_eq!(symbols.frames(of, 0, &walk(&[1, 2])).0.frames, [GONE]);
    let (frames, _) = symbols.frames(of, 0, &walk(&[2, 1]));
    assert_eq!(frames.frames, ["main", "[frame pointers end here]"]);
    // Another program with the same number knows nothing of these.
    let next = Of::Process(7, 2);
    assert_eq!(symbols.frames(next, 0, &walk(&[2])).0.frames, [GONE]);
}

/// The functions of a stack in our own process that is in `getpid`, taken for this program.
fn told(symbols: &mut Symbols, program: u32) -> (String, Option<i64>) {
    let walk = walk(&[nix::libc::getpid as *const () as u64]);
    let of = Of::Process(std::process::id(), program);
    let mut answer = symbols.answer(Question::Stack(0, of, walk));
    let (mut frames, _) = answer.frames.remove(0);
    (frames.frames.remove(0), answer.read_ns)
}

fn began(symbols: &mut Symbols, program: u32, at_ns: u64) {
    symbols.answer(Question::Began(std::process::id(), program, at_ns, None));
}

#[test]
fn functions_are_not_looked_up_in_the_program_that_came_after() {
    let mut symbols = Symbols::knowing_nothing(false);
    began(&mut symbols, 2, 1);
    assert_eq!(told(&mut symbols, 1), (GONE.to_owned(), None));
    let (function, read_ns) = told(&mut symbols, 2);
    assert!(
        function.contains("getpid") && read_ns.is_some(),
        "{function}"
    );
    assert_eq!(told(&mut symbols, 2), (function, None));
    assert_eq!(told(&mut symbols, 1), (GONE.to_owned(), None));
}

#[test]
fn functions_that_were_looked_up_in_a_program_that_had_begun_already_are_forgotten() {
    let mut symbols = Symbols::knowing_nothing(false);
    began(&mut symbols, 1, 1);
    let (function, read_ns) = told(&mut symbols, 1);
    let read_ns = of_records_ns(read_ns.expect("they were looked up"));
    // By then it was still in the first one.
    began(&mut symbols, 2, read_ns + 1);
    assert_eq!(told(&mut symbols, 1), (function.clone(), None));
    let (_, read_ns) = told(&mut symbols, 2);
    let read_ns = of_records_ns(read_ns.expect("they were looked up"));
    began(&mut symbols, 3, read_ns - 1);
    assert_eq!(told(&mut symbols, 2), (GONE.to_owned(), None));
    assert_eq!(told(&mut symbols, 1), (function, None));
}

fn named(name: &str) -> Name {
    Name::Is(Named::new(name.to_owned(), Whose::Unknown))
}

fn walk(addresses: &[u64]) -> Walk {
    Walk {
        addresses: addresses.to_vec(),
        ..Walk::default()
    }
}
