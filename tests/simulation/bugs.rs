//! Worlds that were bugs once.

use bits_gateway::bits::{ContentRange, SessionId};
use bits_gateway::staging::Cutting;

use crate::depot::Habit;
use crate::dice::Dice;
use crate::small;
use crate::table::{Fault, Step};
use crate::world::{HOUR, MINUTE, Packet, Plan, SECOND, World};

/// The bytes of the one file from here to there.
fn fragment(session: SessionId, from: u64, to: u64, total: u64) -> Packet {
    Packet::Fragment(
        session,
        ContentRange::new(from, to, total).expect("a range of the file"),
    )
}

/// A session whose client has sent all of its file but the last byte, and that byte on its way to the replica behind 1.
async fn nearly_published(plan: Plan, total: u64, between: std::time::Duration) -> (World, SessionId) {
    let mut world = World::new(plan, Dice::scripted(Vec::new()));
    world.lines.state().is_healed = true;
    let file = world.file("0.bin".to_owned(), total);
    world.send(1, file, Packet::Create, None);
    world.come_to_rest().await;
    let session = *world.oracle.sessions.keys().next().expect("it was created");
    world.send(1, file, fragment(session, 0, total - 1, total), None);
    world.come_to_rest().await;
    world.lines.depot.time.jump(between).await;
    world.lines.state().is_healed = false;
    world.send(1, file, fragment(session, total - 1, total, total), None);
    world.settle().await;
    (world, session)
}

/// The same for a file that needs no multipart upload.
async fn small_file(between: std::time::Duration) -> (World, SessionId) {
    nearly_published(small::plan(false, Cutting::Alike), 4, between).await
}

/// The steps that wait to be carried out.
fn steps(world: &World) -> Vec<Step> {
    world.lines.state().waiting.iter().map(|request| request.step).collect()
}

/// Carries out everything until the process behind 1 is about to take this step.
async fn until(world: &mut World, step: Step) {
    while !steps(world).contains(&step) {
        assert!(!steps(world).is_empty(), "it never came to {step:?}");
        world.lines.carry(0);
        world.settle().await;
    }
}

/// The process behind 1 is suspended, its requests are answered, and it wakes an hour later.
async fn sleep_over_the_answer(world: &mut World) {
    world.freeze_at(1);
    world.lines.carry_all();
    world.settle().await;
    world.lines.depot.time.jump(HOUR).await;
    world.thaw_at(1);
    world.settle().await;
}

#[test]
fn a_process_that_slept_over_the_look_before_a_publication_looks_again() {
    crate::runtime().block_on(async {
        // Longer than what counts as just now, so that it looks at the record before the put.
        let (mut world, _) = small_file(MINUTE).await;
        until(&mut world, Step::ReadRecord).await;
        sleep_over_the_answer(&mut world).await;
        assert!(
            !steps(&world).contains(&Step::PutFile),
            "it trusts a look of an hour ago"
        );
        world.finish().await;
    });
}

#[test]
fn a_process_that_slept_over_the_load_of_a_session_looks_again() {
    crate::runtime().block_on(async {
        // Older than any view may be, so that it loads the session.
        let (mut world, _) = small_file(11 * MINUTE).await;
        assert_eq!(steps(&world), [Step::ListTails]);
        until(&mut world, Step::ReadRecord).await;
        sleep_over_the_answer(&mut world).await;
        until(&mut world, Step::ReadRecord).await;
        world.finish().await;
    });
}

#[test]
fn a_process_that_slept_between_two_attempts_at_a_publication_does_not_make_another() {
    crate::runtime().block_on(async {
        let (mut world, session) = small_file(SECOND).await;
        until(&mut world, Step::PutFile).await;
        world.lines.spoil(0, Fault::Lost);
        world.settle().await;
        assert_eq!(steps(&world), [Step::Look]);
        sleep_over_the_answer(&mut world).await;
        world.let_pass(SECOND).await;
        assert!(
            !steps(&world).contains(&Step::PutFile),
            "it publishes what it was at an hour ago"
        );
        assert_eq!(world.oracle.phase(session), "open");
        world.finish().await;
    });
}

#[test]
fn an_upload_that_the_store_ended_at_the_last_moment_is_never_told_as_published() {
    crate::runtime().block_on(async {
        let plan = Plan {
            ends_uploads: true,
            ..small::plan(false, Cutting::Alike)
        };
        let total = 8;
        let (mut world, session) = nearly_published(plan, total, SECOND).await;
        until(&mut world, Step::Complete).await;
        world.kill_at(1);
        world.end_upload_of(session);
        world.lines.depot.time.jump(16 * MINUTE).await;
        world.lines.state().is_healed = true;
        world.send(0, 0, fragment(session, total - 1, total, total), None);
        world.come_to_rest().await;
        assert_eq!(world.oracle.phase(session), "closed", "its client starts again");
        assert_eq!(world.oracle.sessions[&session].told, total - 1);
        world.sweep_up().await;
    });
}

#[test]
fn a_file_that_was_taken_before_its_mark_counts_as_published_where_an_object_takes_one_write_a_second() {
    crate::runtime().block_on(async {
        let plan = Plan {
            habit: Habit::WriteASecond,
            ..small::plan(false, Cutting::Alike)
        };
        let (total, key) = (8, object_store::path::Path::from("0.bin"));
        let (mut world, session) = nearly_published(plan, total, SECOND).await;
        until(&mut world, Step::Complete).await;
        world.lines.carry(0);
        world.kill_at(1);
        world.settle().await;
        world.lines.depot.remove(&key, false).expect("it was published");
        world.lines.depot.time.jump(16 * MINUTE).await;
        world.lines.state().is_healed = true;
        world.send(0, 0, fragment(session, total - 1, total, total), None);
        world.come_to_rest().await;
        // The turn that asked for the store's time twice was refused the second time, and so was every one after it.
        assert_eq!(world.oracle.sessions[&session].told, total);
        world.finish().await;
    });
}
