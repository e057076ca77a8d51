//! Hooks: when, where, with what, and what comes of their failure.

use std::process::Stdio;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::world::World;
use crate::{Test, await_that, create, state, wait_for_end};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("hooks_run_in_order_with_the_state", hooks_run_in_order_with_the_state),
    ("failing_hooks_end_the_container", failing_hooks_end_the_container),
    ("failing_poststop_hooks_are_warnings", failing_poststop_hooks_are_warnings),
    ("hooks_run_where_they_should", hooks_run_where_they_should),
    ("of_two_who_end_a_container_one_runs_its_hooks", of_two_who_end_a_container_one_runs_its_hooks),
];

/// A hook that notes its name and what it reads.
fn noting(world: &World, point: &str, number: u32) -> Value {
    let notes = world.dir.join("notes");
    let script = format!("{{ echo {point}{number}; cat; echo; }} >> {}", notes.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10})
}

/// Points of hooks whose programs lie on the host.
pub(crate) const ON_THE_HOST: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

fn hooks_run_in_order_with_the_state(world: &World) -> Result<(), Failed> {
    let mut config = world.script("echo program >> /tmp/notes; sleep 1000");
    config["annotations"] = json!({"a": "b"});
    for point in ON_THE_HOST {
        config["hooks"][point] = json!([noting(world, point, 1), noting(world, point, 2)]);
    }
    let inside = "{ echo startContainer; cat; echo; } >> /tmp/notes";
    config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", inside]}]);
    let notes = || -> Vec<String> {
        let text = std::fs::read_to_string(world.dir.join("notes")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let names = |notes: &[String]| -> Vec<String> { notes.iter().step_by(2).cloned().collect() };
    create(world, &config).good();
    let created =
        ["prestart1", "prestart2", "createRuntime1", "createRuntime2", "createContainer1", "createContainer2"];
    assert_eq!(names(&notes()), created);
    for (number, line) in notes().iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        let told: Value = serde_json::from_str(line)?;
        assert_eq!((&told["id"], &told["status"]), (&json!(world.id()), &json!("creating")), "{number}: {line}");
        assert_eq!((&told["annotations"], &told["bundle"]), (&json!({"a": "b"}), &state(world)["bundle"]));
        // Those in the container's namespaces see another number.
        assert!(number > 8 || told["pid"] == state(world)["pid"], "{number}: {line}");
    }
    assert!(!world.inside("tmp/notes").exists());
    world.runtime(&["start", world.id()]).good();
    assert_eq!(names(&notes())[6..], ["poststart1", "poststart2"]);
    let told: Value = serde_json::from_str(notes().last().unwrap())?;
    assert_eq!(told["status"], "running");
    let text = std::fs::read_to_string(world.inside("tmp/notes"))?;
    assert!(text.starts_with("startContainer\n") && text.contains("\"status\":\"created\""), "{text}");
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait_for_end(world);
    world.runtime(&["delete", world.id()]).good();
    assert_eq!(names(&notes())[8..], ["poststop1", "poststop2"]);
    let told: Value = serde_json::from_str(notes().last().unwrap())?;
    assert_eq!(told["status"], "stopped");
    Ok(())
}

/// A foreground `run` and a `delete --force`: the container ends for both at the same moment.
fn of_two_who_end_a_container_one_runs_its_hooks(world: &World) -> Result<(), Failed> {
    let mut config = world.script("echo > /tmp/runs; sleep 1000");
    let (notes, go) = (world.dir.join("notes"), world.dir.join("go"));
    let script = format!("echo poststop >> {}; until [ -e {} ]; do sleep 0.01; done", notes.display(), go.display());
    config["hooks"]["poststop"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    world.write_config(&config);
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    let spawn = |args: &[&str]| world.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let run = spawn(&["run", "--bundle", &bundle, world.id()])?;
    await_that("it does not start", &|| world.inside("tmp/runs").exists());
    let delete = spawn(&["delete", "--force", world.id()])?;
    await_that("no hook runs", &|| notes.exists());
    // One is in the hook, the other waits for it, or is in it as well.
    let waits = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("lock"))
            || std::fs::read_to_string(&notes).is_ok_and(|notes| notes.lines().count() > 1)
    };
    await_that("the other does nothing", &|| waits(run.id()) || waits(delete.id()));
    std::fs::write(&go, "")?;
    let ending = delete.wait_with_output()?;
    assert!(ending.status.success(), "{}", String::from_utf8_lossy(&ending.stderr));
    let text = run.wait_with_output()?.stderr;
    assert!(!String::from_utf8_lossy(&text).contains("level=error"), "{}", String::from_utf8_lossy(&text));
    assert_eq!(std::fs::read_to_string(&notes)?, "poststop\n");
    Ok(())
}

fn failing_hooks_end_the_container(world: &World) -> Result<(), Failed> {
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut config = world.script("echo ran > /tmp/ran; sleep 1000");
        config["hooks"][point] = json!([{"path": "/bin/false"}]);
        config["hooks"]["poststop"] = json!([noting(world, "poststop", 1)]);
        let bundle = world.dir.join("bundle");
        world.write_config(&config);
        let text = world.runtime(&["run", "-d", "--bundle", &bundle.to_string_lossy(), world.id()]).refused();
        assert!(text.contains(point), "{text}");
        world.runtime(&["state", world.id()]).refused();
        assert!(point == "poststart" || !world.inside("tmp/ran").exists(), "{point}: the program ran");
        let _ = std::fs::remove_file(world.inside("tmp/ran"));
        let notes = std::fs::read_to_string(world.dir.join("notes")).unwrap_or_default();
        assert!(notes.contains("\"status\":\"stopped\""), "{point}: no poststop hook ran: {notes}");
        std::fs::remove_file(world.dir.join("notes"))?;
    }
    for wrong in [
        json!({"path": "bin/true"}),
        json!({"path": "/bin/true", "timeout": 0}),
        json!({"path": "/bin/true", "timeout": -1}),
    ] {
        let mut config = world.config(&["true"]);
        config["hooks"]["createRuntime"] = json!([wrong]);
        let ending = world.run(&config);
        assert!(!ending.is_good(), "{wrong}: {ending:?}");
    }
    Ok(())
}

fn failing_poststop_hooks_are_warnings(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["true"]);
    config["hooks"]["poststop"] = json!([{"path": "/bin/false"}, noting(world, "poststop", 2)]);
    let text = world.run(&config).good();
    assert!(text.contains("level=warning") && text.contains("poststop"), "{text}");
    let notes = std::fs::read_to_string(world.dir.join("notes"))?;
    assert!(notes.starts_with("poststop2\n") && notes.contains("\"status\":\"stopped\""), "{notes}");
    Ok(())
}

fn hooks_run_where_they_should(world: &World) -> Result<(), Failed> {
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for point in ON_THE_HOST {
        let notes = world.dir.join(point);
        let script = format!("readlink /proc/self/ns/mnt /proc/self/ns/uts > {}", notes.display());
        let mut config = world.config(&["true"]);
        config["hooks"][point] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        world.run(&config).good();
        let text = std::fs::read_to_string(notes)?;
        let outside = text == format!("{}\n{}\n", own("mnt"), own("uts"));
        let inside = !text.contains(&own("mnt")) && !text.contains(&own("uts"));
        assert!(if point == "createContainer" { inside } else { outside }, "{point}: {text}");
    }
    // Its path is the container's.
    let mut config = world.config(&["cat", "/tmp/said"]);
    config["hooks"]["startContainer"] =
        json!([{"path": "/bin/busybox", "args": ["sh", "-c", "echo said > /tmp/said"]}]);
    assert_eq!(world.run(&config).good(), "said\n");
    Ok(())
}
