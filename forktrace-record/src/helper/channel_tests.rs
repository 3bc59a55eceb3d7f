use std::{cell::RefCell, io::Write as _, net::Shutdown};

use super::*;
use crate::trace::{Event, HelperEnd};

/// Gives sockets whose other ends the test has.
#[derive(Default)]
struct Fake {
    ends: RefCell<Vec<UnixStream>>,
    refuses: RefCell<Option<String>>,
}

impl Helpers for Fake {
    fn helper(&self, _: Kind) -> Result<UnixStream, String> {
        if let Some(why) = &*self.refuses.borrow() {
            return Err(why.clone());
        }
        let (ours, its) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("it can be");
        self.ends.borrow_mut().push(its);
        Ok(ours)
    }

    fn abandon(&self, _: Kind) {}
}

const REPLACED: u64 = 2;
/// Longer than any test, and none at all.
const LONG: Duration = Duration::from_secs(1000);
const NONE: Duration = Duration::ZERO;

fn channel(patience: Duration) -> (Channel<&'static str, u32>, Rc<Fake>) {
    let fake = Rc::new(Fake::default());
    let channel = Channel::new(fake.clone(), Kind::Names, patience, REPLACED);
    (channel, fake)
}

fn last(fake: &Fake) -> UnixStream {
    let ends = fake.ends.borrow();
    ends.last().expect("one").try_clone().expect("again")
}

fn answer(number: u32) -> Vec<u8> {
    framed(&postcard::to_stdvec(&Reply::Answer(7, number)).expect("bytes"))
}

fn ends(channel: &Channel<&'static str, u32>) -> Vec<HelperEnd> {
    match channel.troubles().event() {
        Some(Event::HelperLost(lost)) => lost.ends,
        _ => Vec::new(),
    }
}

/// It was replaced, and the question that it was lost over was given up.
#[track_caller]
fn was_replaced(channel: &mut Channel<&'static str, u32>, fake: &Fake) {
    let before = fake.ends.borrow().len();
    let received = channel.receive();
    assert!(received.anew);
    assert_eq!(received.lost, ["first"]);
    assert_eq!(fake.ends.borrow().len(), before + 1);
    // The others are asked again.
    channel.go_on::<u32>([]);
    assert_eq!(channel.waiting(), 1);
    last(fake).write_all(&answer(5)).expect("it listens");
    let received = channel.receive();
    assert_eq!(received.answers, [("second", 5, 7)]);
}

fn asked_two(patience: Duration) -> (Channel<&'static str, u32>, Rc<Fake>) {
    let (mut channel, fake) = channel(patience);
    channel.ask("first", &1_u32);
    channel.ask("second", &2_u32);
    (channel, fake)
}

#[test]
fn answers_come_back_in_pieces_to_what_was_asked() {
    let (mut channel, fake) = asked_two(LONG);
    let both = [answer(3), answer(4)].concat();
    for byte in &both[..both.len() - 1] {
        last(&fake).write_all(&[*byte]).expect("it listens");
        assert!(channel.receive().lost.is_empty());
    }
    assert_eq!(channel.waiting(), 1);
    last(&fake)
        .write_all(&both[both.len() - 1..])
        .expect("it listens");
    assert_eq!(channel.receive().answers, [("second", 4, 7)]);
    assert_eq!(channel.cpu_ns(), 14);
    assert_eq!(channel.troubles(), Troubles::default());
}

#[test]
fn nonsense_is_no_answer() {
    let no_answer = framed(b"\xff\xff\xff\xff\xff\xff\xff");
    let more_than_an_answer = {
        let mut payload = postcard::to_stdvec(&Reply::Answer(7, 1_u32)).expect("bytes");
        payload.push(0);
        framed(&payload)
    };
    let too_long = (LONGEST as u32 + 1).to_ne_bytes().to_vec();
    let longest = u32::MAX.to_ne_bytes().to_vec();
    let empty = framed(b"");
    for nonsense in [no_answer, more_than_an_answer, too_long, longest, empty] {
        let (mut channel, fake) = asked_two(LONG);
        last(&fake).write_all(&nonsense).expect("it listens");
        was_replaced(&mut channel, &fake);
        assert_eq!(ends(&channel)[0].how, How::Senseless);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_none() {
    let (mut channel, fake) = channel(LONG);
    last(&fake).write_all(&answer(1)).expect("it listens");
    let received = channel.receive();
    assert!(received.answers.is_empty() && received.anew);
    // Nor a second one to the same question.
    channel.ask("only", &1_u32);
    let twice = [answer(1), answer(2)].concat();
    last(&fake).write_all(&twice).expect("it listens");
    let received = channel.receive();
    assert_eq!(received.answers, [("only", 1, 7)]);
    assert!(received.anew);
    assert_eq!(ends(&channel)[0].times, 2);
}

#[test]
fn one_that_dies_in_the_middle_of_an_answer_is_replaced() {
    let (mut channel, fake) = asked_two(LONG);
    let its = last(&fake);
    its.try_clone()
        .expect("again")
        .write_all(&answer(1)[..3])
        .expect("it listens");
    its.shutdown(Shutdown::Both).expect("it is open");
    was_replaced(&mut channel, &fake);
    // Of what it died another tells.
    assert_eq!(channel.troubles().unexplained(), 1);
}

#[test]
fn one_that_answers_and_dies_has_answered() {
    let (mut channel, fake) = asked_two(LONG);
    let mut its = last(&fake);
    its.write_all(&answer(1)).expect("it listens");
    its.shutdown(Shutdown::Both).expect("it is open");
    let received = channel.receive();
    assert_eq!(received.answers, [("first", 1, 7)]);
    assert_eq!(received.lost, ["second"]);
}

#[test]
fn one_that_says_nothing_is_given_up_and_so_is_one_that_drips() {
    let (mut channel, fake) = asked_two(NONE);
    last(&fake).write_all(&answer(1)[..2]).expect("it listens");
    let received = channel.receive();
    assert!(received.anew);
    assert_eq!(received.lost, ["first"]);
    assert_eq!(channel.troubles().stuck, 1);
}

#[test]
fn who_is_lost_too_often_is_not_replaced() {
    let (mut channel, fake) = asked_two(LONG);
    let mut lost = Vec::new();
    for _ in 0..=REPLACED {
        last(&fake).shutdown(Shutdown::Both).expect("it is open");
        lost.extend(channel.receive().lost);
        channel.go_on::<u32>([]);
        channel.ask("more", &3_u32);
    }
    assert!(!channel.is_open());
    assert_eq!(channel.waiting(), 0);
    assert_eq!(lost.len() as u64, REPLACED + 2, "{lost:?}");
    let troubles = channel.troubles();
    assert_eq!(troubles.died, REPLACED + 1);
    // The last was not even asked.
    assert_eq!(troubles.unanswered, lost.len() as u64 + 1);
}

#[test]
fn one_that_can_not_begin_says_why_and_is_not_tried_again() {
    let (mut channel, fake) = asked_two(LONG);
    say_why_not(last(&fake), "no /proc").expect("it listens");
    let received = channel.receive();
    assert_eq!(received.lost, ["first", "second"]);
    assert!(!received.anew && !channel.is_open());
    assert_eq!(fake.ends.borrow().len(), 1);
    let why = How::NotBegun("no /proc".to_owned());
    assert_eq!(ends(&channel)[0].how, why);
}

#[test]
fn without_helpers_the_recording_goes_on_and_knows_why() {
    let fake = Rc::new(Fake::default());
    *fake.refuses.borrow_mut() = Some("x".repeat(10_000));
    let mut channel: Channel<&str, u32> = Channel::new(fake, Kind::Names, LONG, REPLACED);
    assert!(!channel.is_open());
    channel.ask("first", &1_u32);
    assert!(channel.receive().answers.is_empty());
    let Some(Event::HelperLost(lost)) = channel.troubles().event() else {
        panic!("it is told");
    };
    assert_eq!((lost.died, lost.unanswered), (1, 1));
    let How::NotBegun(why) = &lost.ends[0].how else {
        panic!("{:?}", lost.ends);
    };
    assert!(why.len() < 1_000);
}

#[test]
fn a_helper_answers_until_nobody_asks_and_refuses_what_is_too_long() {
    let (mut ours, its) = UnixStream::pair().expect("a pair");
    let helper = std::thread::spawn(move || serve(its, |question: u32| question + 1));
    ours.write_all(&framed(&postcard::to_stdvec(&1_u32).expect("bytes")))
        .expect("it listens");
    let mut answer = [0; 4];
    ours.read_exact(&mut answer).expect("an answer");
    ours.shutdown(Shutdown::Write).expect("it is open");
    assert!(helper.join().expect("it ends").is_ok());

    let (mut ours, its) = UnixStream::pair().expect("a pair");
    let helper = std::thread::spawn(move || serve(its, |question: u32| question));
    ours.write_all(&u32::MAX.to_ne_bytes()).expect("it listens");
    assert!(helper.join().expect("it ends").is_err());
}
