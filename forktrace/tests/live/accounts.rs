//! Whom the workload runs as, and whose the files are.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{Gid, Uid, User, getgrouplist, getgroups, setgroups};

use crate::support::{Finished, Forktrace, check_complete, run, skip};

/// A user without rights that machines have; `None` where nobody has a name.
fn nobody() -> Option<User> {
    let unprivileged = |user: &User| !user.uid.is_root();
    User::from_uid(Uid::from_raw(65534))
        .ok()
        .flatten()
        .filter(unprivileged)
}

/// Looks at itself from within the workload.
const WHOAMI: &str = "id -u; id -g; id -G; echo $HOME; echo $USER; touch made";

/// What it must see.
fn seen_by(user: &User) -> String {
    let name = std::ffi::CString::new(user.name.as_str()).expect("a name");
    let groups = getgrouplist(&name, user.gid).expect("groups");
    let groups: Vec<String> = groups.iter().map(Gid::to_string).collect();
    let User {
        uid,
        gid,
        dir,
        name,
        ..
    } = user;
    format!(
        "{uid}\n{gid}\n{}\n{}\n{name}\n",
        groups.join(" "),
        dir.display()
    )
}

/// Runs [`WHOAMI`] in a folder that belongs to `user`.
fn whoami(user: &User, mut run: Forktrace) -> Finished {
    let folder = run.folder().to_owned();
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).expect("the folder can be given away");
    run.command().current_dir(&folder);
    // Groups that the workload must not get.
    let ours = getgroups().expect("our groups");
    setgroups(&[Gid::from_raw(0), Gid::from_raw(4242)]).expect("root can set groups");
    let finished = run.args(["--save", "trace"]).shell(WHOAMI).finish();
    setgroups(&ours).expect("root can set groups");
    assert!(finished.status.success(), "{}", finished.stderr);
    check_complete(finished.report());
    finished
}

fn owner(path: &Path) -> (u32, u32) {
    let data = fs::metadata(path).expect("the file is there");
    (data.uid(), data.gid())
}

fn check_ran_as(user: &User, finished: &Finished) {
    assert_eq!(finished.stdout, seen_by(user));
    for file in ["made", "trace", "report.json"] {
        let expected = (user.uid.as_raw(), user.gid.as_raw());
        assert_eq!(owner(&finished.file(file)), expected, "{file}");
    }
}

fn under_sudo_of(user: &User) -> Forktrace {
    let mut run = run();
    run.command()
        .env("SUDO_UID", user.uid.to_string())
        .env("SUDO_GID", user.gid.to_string())
        .env("SUDO_USER", &user.name);
    run
}

#[test]
fn under_sudo_the_workload_runs_as_the_user_and_the_files_are_theirs() {
    let Some(user) = nobody() else {
        return skip(
            "under_sudo_the_workload_runs_as_the_user_and_the_files_are_theirs",
            "no user has the id 65534",
        );
    };
    check_ran_as(&user, &whoami(&user, under_sudo_of(&user)));
}

#[test]
fn a_user_that_is_named_is_the_user() {
    let Some(user) = nobody() else {
        return skip(
            "a_user_that_is_named_is_the_user",
            "no user has the id 65534",
        );
    };
    check_ran_as(&user, &whoami(&user, run().args(["-u", &user.name])));
    check_ran_as(
        &user,
        &whoami(&user, run().args(["-u", &user.uid.to_string()])),
    );
}

#[test]
fn as_root_stays_root() {
    let Some(user) = nobody() else {
        return skip("as_root_stays_root", "no user has the id 65534");
    };
    let finished = whoami(&user, under_sudo_of(&user).args(["--as-root"]));
    assert!(finished.stdout.starts_with("0\n0\n"), "{}", finished.stdout);
    for file in ["made", "trace", "report.json"] {
        assert_eq!(owner(&finished.file(file)), (0, 0), "{file}");
    }
}

#[test]
fn a_user_that_is_not_there_is_an_error() {
    let finished = run()
        .args(["-u", "no-such-user", "--", "echo", "it ran"])
        .finish();
    assert_eq!(finished.status.code(), Some(125));
    assert!(
        finished.stderr.contains("no user no-such-user"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.stdout, "");

    let mut run = run();
    run.command().env("SUDO_UID", "3999999999");
    let finished = run.args(["--", "echo", "it ran"]).finish();
    assert_eq!(finished.status.code(), Some(125));
    assert!(
        finished.stderr.contains("3999999999"),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.contains("--as-root"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}
