use proptest::prelude::*;

use super::*;
use crate::{
    report::{
        sample,
        snapshot::{Frame, Quantiles},
        tui::Cost,
    },
    trend::Verdict,
};

fn stack(id: u64, verdict: Verdict, bytes: u64) -> Stack {
    Stack {
        id: format!("{id:016x}"),
        verdict,
        growth_bytes_per_hour: 0.0,
        outstanding_bytes: bytes,
        outstanding_blocks: bytes / 8,
        frames: vec![sample::frame(&format!("function_{id}"), "server", Some(("/src/Main.c", 3)))],
        ..sample::stack()
    }
}

fn update(stacks: Vec<Stack>) -> Update {
    Update { snapshot: Snapshot { stacks, ..sample::snapshot() }, cost: Cost::default() }
}

fn three() -> Vec<Stack> {
    vec![stack(1, Verdict::Growing, 100), stack(2, Verdict::Plateau, 900), stack(3, Verdict::Plateau, 800)]
}

fn shown(stacks: Vec<Stack>) -> State {
    let mut state = State::new();
    state.update(update(stacks));
    state
}

fn order(state: &State) -> Vec<String> {
    state.visible().map(|(_, stack)| stack.id.trim_start_matches('0').to_owned()).collect()
}

fn selected(state: &State) -> Option<&str> {
    state.selected().map(|(_, stack)| stack.id.trim_start_matches('0'))
}

fn write(state: &mut State, text: &str) {
    state.apply(Action::EditFilter);
    for character in text.chars() {
        state.apply(Action::Type(character));
    }
}

#[test]
fn the_verdict_decides_until_another_order_is_asked_for() {
    let mut stacks = three();
    stacks[2].allocations = 1 << 40;
    stacks[0].age_ms = None;
    stacks[1].age_ms = Some(Quantiles { p50: 0, ..Quantiles::default() });
    let mut state = shown(stacks);
    assert_eq!(order(&state), ["1", "2", "3"]);
    for (sort, wanted) in
        [(Sort::Size, ["2", "3", "1"]), (Sort::Allocations, ["3", "1", "2"]), (Sort::Age, ["3", "2", "1"])]
    {
        state.apply(Action::Sort(sort));
        assert_eq!(order(&state), wanted, "{sort:?}");
    }
    state.apply(Action::NextSort);
    assert_eq!((state.sort(), order(&state)), (Sort::Verdict, ["1", "2", "3"].map(str::to_owned).to_vec()));
}

#[test]
fn the_selection_stays_with_its_stack_wherever_that_goes() {
    let mut state = shown(three());
    state.apply(Action::Move(1));
    assert_eq!(selected(&state), Some("2"));
    let mut stacks = three();
    stacks[2].verdict = Verdict::Growing;
    stacks.push(stack(4, Verdict::Growing, 10_000));
    state.update(update(stacks));
    assert_eq!((order(&state).len(), selected(&state)), (4, Some("2")));
}

#[test]
fn the_first_row_stays_selected_whoever_it_is() {
    let mut state = shown(three());
    state.update(update(vec![stack(9, Verdict::Growing, 10_000), stack(1, Verdict::Growing, 100)]));
    assert_eq!(selected(&state), Some("9"));
    state.apply(Action::Last);
    state.apply(Action::First);
    state.update(update(three()));
    assert_eq!(selected(&state), Some("1"));
}

#[test]
fn a_selected_stack_that_has_gone_is_selected_again_when_it_returns() {
    let mut state = shown(three());
    state.apply(Action::Last);
    assert_eq!(selected(&state), Some("3"));
    state.update(update(vec![stack(1, Verdict::Growing, 100)]));
    assert_eq!(selected(&state), Some("1"));
    state.update(update(three()));
    assert_eq!(selected(&state), Some("3"));
}

#[test]
fn the_filter_looks_at_function_module_and_file_of_every_frame_in_either_case() {
    let mut stacks = three();
    stacks[1].frames.push(Frame { module: Some("libSSL.so.3".to_owned()), ..Frame::default() });
    for (filter, wanted) in [
        ("libssl", vec!["2"]),
        ("FUNCTION_3", vec!["3"]),
        ("main.c", vec!["1", "2", "3"]),
        ("libssl.so.4", vec![]),
        ("nowhere", vec![]),
    ] {
        let mut state = shown(stacks.clone());
        write(&mut state, filter);
        assert_eq!(order(&state), wanted, "{filter}");
        state.apply(Action::Accept);
        assert_eq!((state.mode(), state.filter()), (Mode::Browse, filter));
        state.apply(Action::Cancel);
        assert_eq!((state.filter(), state.listed()), ("", 3));
    }
}

#[test]
fn erasing_widens_the_filter_and_control_characters_are_not_taken() {
    let mut state = shown(three());
    write(&mut state, "function_12\u{1b}");
    assert_eq!((state.filter(), state.listed()), ("function_12", 0));
    state.apply(Action::Erase);
    assert_eq!(order(&state), ["1"]);
}

#[test]
fn a_paused_screen_stands_still_and_then_shows_the_newest() {
    let mut state = shown(three());
    state.apply(Action::Pause);
    state.update(update(Vec::new()));
    state.update(update(vec![stack(7, Verdict::Growing, 1)]));
    assert!(state.is_paused() && state.listed() == 3);
    state.apply(Action::Pause);
    assert_eq!(order(&state), ["7"]);
}

#[test]
fn frames_that_an_update_lacks_are_those_of_the_one_before() {
    let mut state = shown(three());
    let bare = |stack: Stack| Stack { frames: Vec::new(), age_ms: None, ..stack };
    state.update(update(three().into_iter().map(bare).collect()));
    assert!(state.visible().all(|(_, stack)| stack.frames.len() == 1 && stack.age_ms.is_some()));
    let other_process = |stack: Stack| Stack { pid: 7, ..stack };
    state.update(update(three().into_iter().map(bare).map(other_process).collect()));
    assert!(state.visible().all(|(_, stack)| stack.frames.is_empty()));
}

#[test]
fn the_help_takes_the_next_key_but_not_the_end() {
    let mut state = shown(three());
    state.apply(Action::Help);
    assert_eq!((state.apply(Action::Save), state.mode()), (None, Mode::Browse));
    state.apply(Action::Help);
    assert_eq!(state.apply(Action::Quit), Some(Request::Quit));
}

#[test]
fn nothing_is_saved_before_there_is_something() {
    assert_eq!(State::new().apply(Action::Save), None);
    assert_eq!(shown(Vec::new()).apply(Action::Save), Some(Request::Save));
}

#[derive(Clone, Debug)]
enum Step {
    Do(Action),
    Update(Vec<(u64, u64)>),
    Fit(Room),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let simple = prop::sample::select(vec![
        Action::First,
        Action::Last,
        Action::NextSort,
        Action::EditFilter,
        Action::Erase,
        Action::Accept,
        Action::Cancel,
        Action::Expand,
        Action::Pause,
        Action::Save,
        Action::Help,
        Action::Suspend,
        Action::Quit,
    ]);
    let far = prop_oneof![-3isize..4, any::<isize>()];
    let step = prop_oneof![
        simple.prop_map(Step::Do),
        far.clone().prop_map(|rows| Step::Do(Action::Move(rows))),
        far.clone().prop_map(|pages| Step::Do(Action::Page(pages))),
        far.prop_map(|lines| Step::Do(Action::Scroll(lines))),
        prop::sample::select(Sort::ALL.to_vec()).prop_map(|sort| Step::Do(Action::Sort(sort))),
        prop::sample::select(vec!['f', '_', '1', '2', 'é']).prop_map(|typed| Step::Do(Action::Type(typed))),
        prop::collection::vec((0u64..8, 0u64..100), 0..12).prop_map(Step::Update),
        (0usize..6, 0usize..9).prop_map(|(rows, hidden_lines)| Step::Fit(Room { rows, hidden_lines })),
    ];
    prop::collection::vec(step, 0..60)
}

#[test]
fn a_message_goes_with_the_first_key_after_it_was_read() {
    let mut state = State::new();
    state.say("news".to_owned());
    state.apply(Action::Move(1));
    assert_eq!(state.message(), Some("news"), "that key was pressed before");
    state.read();
    assert_eq!(state.message(), Some("news"));
    state.apply(Action::Move(1));
    assert_eq!(state.message(), None);
}

proptest! {
    #[test]
    fn whatever_happens_the_selection_is_a_listed_stack_and_visible(steps in steps()) {
        let mut state = State::new();
        let mut room = Room::default();
        for step in steps {
            match step {
                Step::Do(action) => {
                    state.apply(action);
                }
                Step::Update(stacks) => {
                    state.update(update(stacks.iter().map(|&(id, bytes)| stack(id, Verdict::Plateau, bytes)).collect()));
                }
                Step::Fit(now) => room = now,
            }
            prop_assert_eq!(state.selected().is_some(), state.listed() > 0);
            state.fit(room);
            prop_assert!(state.scrolled() <= room.hidden_lines);
            if let Some((row, _)) = state.selected()
                && room.rows > 0
            {
                prop_assert!(state.visible().take(room.rows).any(|(visible, _)| visible == row));
            }
            if state.filter().is_empty() {
                prop_assert_eq!(state.listed(), state.snapshot().map_or(0, |snapshot| snapshot.stacks.len()));
            }
        }
    }
}
