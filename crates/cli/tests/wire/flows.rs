//! What a user sees, and the requests it takes.

use super::fake::{Fake, ID, NEWEST};
use super::{client, run, shown};

#[test]
fn run_attaches_and_waits_before_it_starts() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["run", "--rm", "echo", "hi"], "");
    assert_eq!(shown(&output), "out\n--\nWARNING: mind the gap\nerr\n--\n3");
    let steps = fake.steps();
    assert_eq!(steps.len(), 4, "no needless request: {steps:?}");
    assert_eq!(steps[0], "POST /containers/create");
    assert_eq!(steps[3], "POST /containers/ID/start");
    let wait = fake.asked().into_iter().find(|asked| asked.line.contains("/wait")).expect("a wait");
    assert!(wait.line.ends_with("condition=removed"), "{}", wait.line);
}

#[test]
fn input_is_sent_and_closed() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["run", "-i", "cat"], "some\ninput\n");
    assert_eq!(shown(&output), "some\ninput\n--\nWARNING: mind the gap\n--\n0");
}

#[test]
fn an_older_daemon_is_met_in_its_version() {
    let fake = Fake::start(47);
    let output = run(&client(), &fake.host(), &["run", "-d", "echo"], "");
    assert_eq!(shown(&output), format!("{ID}\n--\nWARNING: mind the gap\n--\n0"));
    let lines: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "POST /v1.55/containers/create".to_owned(),
            "POST /v1.47/containers/create".to_owned(),
            format!("POST /v1.47/containers/{ID}/start")
        ]
    );
}

#[test]
fn a_missing_image_is_pulled() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["run", "-d", "absent"], "");
    assert_eq!(
        shown(&output),
        format!(
            "{ID}\n--\nUnable to find image 'absent:latest' locally\nlatest: Pulling from library/absent\n\
             Status: Downloaded newer image for absent:latest\nWARNING: mind the gap\n--\n0"
        )
    );
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["run", "--pull", "never", "absent"], "");
    assert_eq!(
        shown(&output),
        "--\nclient: Error response from daemon: No such image: absent:latest\n\nRun 'client run --help' for more information\n--\n125"
            .replace("client", "budu")
    );
}

#[test]
fn a_failed_start_says_why_by_its_status() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["run", "--rm", "nocmd", "nope"], "");
    assert_eq!(output.status.code(), Some(127));
    assert!(shown(&output).contains("Error response from daemon: exec: \"nope\": executable file not found in $PATH"));
}

#[test]
fn exec_ends_with_the_status_of_the_command() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["exec", "-e", "A=1", "-eB=2", "-w/tmp", "web", "ls", "-l"], "");
    assert_eq!(shown(&output), "out\n--\nerr\n--\n42");
    let create = &fake.asked()[0].body;
    assert_eq!(create["Cmd"], serde_json::json!(["ls", "-l"]));
    assert_eq!(create["Env"], serde_json::json!(["A=1", "B=2"]));
    assert_eq!(create["WorkingDir"], "/tmp");
}

#[test]
fn logs_come_apart_into_both_outputs() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["logs", "--tail", "5", "web"], "");
    assert_eq!(shown(&output), "out\n--\nerr\n--\n0");
    assert_eq!(fake.steps().len(), 1);
}

#[test]
fn attach_ends_with_the_container() {
    let fake = Fake::start(NEWEST);
    let created = run(&client(), &fake.host(), &["run", "-d", "echo"], "");
    assert!(created.status.success());
    let output = run(&client(), &fake.host(), &["attach", "--no-stdin", "web"], "");
    assert_eq!(shown(&output), "out\n--\nerr\n--\n3");
}

#[test]
fn several_names_each_get_their_answer() {
    let fake = Fake::start(NEWEST);
    let both = ["stop", "-t", "3", "web", "gone"];
    let answers = "web\n--\nError response from daemon: No such container: gone\n--\n1";
    assert_eq!(shown(&run(&client(), &fake.host(), &both, "")), answers);
    // Both requests are under way when an older daemon refuses their version.
    let older = Fake::start(47);
    assert_eq!(shown(&run(&client(), &older.host(), &both, "")), answers);
}

#[test]
fn inspect_shows_what_it_found_and_fails_for_the_rest() {
    let fake = Fake::start(NEWEST);
    let output = run(&client(), &fake.host(), &["inspect", "web", "gone"], "");
    let text = shown(&output);
    assert!(text.starts_with("[\n    {\n        \"Id\": \"c0ffee0123456789c0ffee0123456789c0ffee0123456789c0ffee0123456789\",\n        \"Name\": \"/web\",\n"), "{text}");
    assert!(text.contains("\"Args\": [],\n") && text.ends_with("--\nError: No such object: gone\n--\n1"), "{text}");
    let output = run(
        &client(),
        &fake.host(),
        &["inspect", "-f", "{{.State.Pid}} {{slice .ID 0 6}} {{json .Config.Labels}}", "web"],
        "",
    );
    assert_eq!(shown(&output), "7 c0ffee {\"a.b\":\"c\"}\n--\n--\n0");
}

#[test]
fn errors_have_docker_s_form() {
    for (args, want) in [
        (
            &["ps"][..],
            "--\nCannot connect to the Docker daemon at unix:///nonexistent/s. Is the docker daemon running?\n--\n1",
        ),
        (&["build", "."], "--\nbudu: 'budu build' is not implemented yet\n--\n1"),
        (&["nonsense"], "--\nbudu: unknown command: budu nonsense\n\nRun 'budu --help' for more information\n--\n1"),
        (&["-c", "nope", "ps"], "context \"nope\": context not found"),
    ] {
        let text = shown(&run(&client(), "unix:///nonexistent/s", args, ""));
        assert!(text.contains(want), "{args:?}: {text}");
    }
}
