//! The commands, one file each, and the table of their names.

mod attach;
mod confirm;
mod container_files;
mod context;
mod cp;
mod df;
mod events;
mod exec;
mod history;
mod image_archives;
mod images;
mod info;
mod inspect;
mod interact;
mod kill;
mod lists;
mod login;
mod logs;
mod network;
mod network_connect;
mod network_create;
mod network_rm;
mod ports;
mod prune;
mod ps;
mod pull;
mod rename;
mod rm;
mod rmi;
mod run;
mod start;
mod state;
mod stats;
mod system;
mod tag;
mod top;
mod update;
mod version;
mod volume;
mod wait;
mod why;

use std::future::Future;
use std::pin::Pin;

use clap::ArgMatches;

use crate::cli::Cli;
use crate::error::Error;
use crate::flags::{self, Arity, Subject};
use crate::{help, table};

/// The commit this program was built from.
pub(crate) const BUILD: &str = match option_env!("BUDU_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What every command says about itself.
pub(crate) trait Command: clap::Args {
    /// One line for help pages.
    const ABOUT: &'static str;
    /// `[OPTIONS] CONTAINER [CONTAINER...]`
    const USAGE: &'static str;
    /// How many arguments it takes.
    const ARITY: Arity;
    /// Options end at the first argument; the rest belongs to the container's command.
    const OPTIONS_FIRST: bool = false;

    /// Does it; returns the exit status.
    fn run(self, cli: &Cli) -> impl Future<Output = Result<i32, Error>>;
}

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<i32, Error>> + 'a>>;

/// A command under all its names.
struct Entry {
    /// Full names; the first is how the group lists it, the last the short form.
    names: &'static [&'static str],
    about: &'static str,
    usage: &'static str,
    arity: Arity,
    options_first: bool,
    define: fn() -> clap::Command,
    run: for<'a> fn(&'a Cli, &'a ArgMatches) -> Outcome<'a>,
}

const fn entry<C: Command>(names: &'static [&'static str]) -> Entry {
    Entry {
        names,
        about: C::ABOUT,
        usage: C::USAGE,
        arity: C::ARITY,
        options_first: C::OPTIONS_FIRST,
        define: || C::augment_args(clap::Command::new("budu")),
        run: |cli, matches| Box::pin(async move { C::from_arg_matches(matches).map_err(Error::new)?.run(cli).await }),
    }
}

static TABLE: &[Entry] = &[
    entry::<run::Run>(&["container run", "run"]),
    entry::<run::Create>(&["container create", "create"]),
    entry::<exec::Exec>(&["container exec", "exec"]),
    entry::<ps::Ps>(&["container ls", "container list", "container ps", "ps"]),
    entry::<start::Start>(&["container start", "start"]),
    entry::<state::Stop>(&["container stop", "stop"]),
    entry::<state::Restart>(&["container restart", "restart"]),
    entry::<state::Pause>(&["container pause", "pause"]),
    entry::<state::Unpause>(&["container unpause", "unpause"]),
    entry::<kill::Kill>(&["container kill", "kill"]),
    entry::<update::Update>(&["update"]),
    entry::<wait::Wait>(&["container wait", "wait"]),
    entry::<rm::Rm>(&["container rm", "container remove", "rm"]),
    entry::<logs::Logs>(&["container logs", "logs"]),
    entry::<attach::Attach>(&["container attach", "attach"]),
    entry::<top::Top>(&["container top", "top"]),
    entry::<ports::Port>(&["container port", "port"]),
    entry::<rename::Rename>(&["container rename", "rename"]),
    entry::<inspect::InspectContainer>(&["container inspect"]),
    entry::<cp::Cp>(&["container cp", "cp"]),
    entry::<container_files::Diff>(&["container diff", "diff"]),
    entry::<container_files::Export>(&["container export", "export"]),
    entry::<container_files::Commit>(&["container commit", "commit"]),
    entry::<stats::Stats>(&["container stats", "stats"]),
    entry::<prune::Containers>(&["container prune"]),
    entry::<image_archives::Load>(&["image load", "load"]),
    entry::<image_archives::Save>(&["image save", "save"]),
    entry::<image_archives::Import>(&["image import", "import"]),
    entry::<prune::Images>(&["image prune"]),
    entry::<history::History>(&["image history", "history"]),
    entry::<df::Df>(&["system df"]),
    entry::<login::Login>(&["login"]),
    entry::<login::Logout>(&["logout"]),
    entry::<pull::Pull>(&["image pull", "pull"]),
    entry::<images::Images>(&["image ls", "image list", "images"]),
    entry::<rmi::Rmi>(&["image rm", "image remove", "rmi"]),
    entry::<tag::Tag>(&["image tag", "tag"]),
    entry::<inspect::InspectImage>(&["image inspect"]),
    entry::<network::List>(&["network ls", "network list"]),
    entry::<network_create::Create>(&["network create"]),
    entry::<network_connect::Connect>(&["network connect"]),
    entry::<network_connect::Disconnect>(&["network disconnect"]),
    entry::<network_rm::Rm>(&["network rm", "network remove"]),
    entry::<network_rm::Prune>(&["network prune"]),
    entry::<inspect::InspectNetwork>(&["network inspect"]),
    entry::<volume::Create>(&["volume create"]),
    entry::<volume::List>(&["volume ls", "volume list"]),
    entry::<inspect::InspectVolume>(&["volume inspect"]),
    entry::<volume::Remove>(&["volume rm", "volume remove"]),
    entry::<volume::Prune>(&["volume prune"]),
    entry::<volume::Update>(&["volume update"]),
    entry::<volume::Rename>(&["volume rename"]),
    entry::<volume::Clone>(&["volume clone"]),
    entry::<volume::Snapshot>(&["volume snapshot"]),
    entry::<volume::Restore>(&["volume restore"]),
    entry::<inspect::Inspect>(&["inspect"]),
    entry::<why::Why>(&["container why", "why"]),
    entry::<version::Version>(&["version"]),
    entry::<info::Info>(&["system info", "info"]),
    entry::<events::Events>(&["system events", "events"]),
    entry::<system::DialStdio>(&["system dial-stdio"]),
    entry::<system::Prune>(&["system prune"]),
    entry::<context::Create>(&["context create"]),
    entry::<context::Export>(&["context export"]),
    entry::<context::Import>(&["context import"]),
    entry::<context::Inspect>(&["context inspect"]),
    entry::<context::List>(&["context ls", "context list"]),
    entry::<context::Remove>(&["context rm", "context remove"]),
    entry::<context::Show>(&["context show"]),
    entry::<context::Update>(&["context update"]),
    entry::<context::Use>(&["context use"]),
];

/// What Docker has and Budu does not have yet.
#[rustfmt::skip]
const MISSING: &[&str] = &[
    "attest", "bake", "build", "builder build", "builder prune", "buildx", "checkpoint create", "checkpoint ls",
    "checkpoint rm", "compose", "config create", "config inspect", "config ls", "config rm", "container update",
    "image build", "image push", "manifest annotate", "manifest create", "manifest inspect", "manifest push",
    "manifest rm", "node demote", "node inspect", "node ls", "node promote", "node ps", "node rm", "node update",
    "plugin create", "plugin disable", "plugin enable", "plugin inspect", "plugin install", "plugin ls", "plugin push",
    "plugin rm", "plugin set", "plugin upgrade", "push", "search", "secret create", "secret inspect", "secret ls",
    "secret rm", "service create", "service inspect", "service logs", "service ls", "service ps", "service rm",
    "service rollback", "service scale", "service update", "stack config", "stack deploy", "stack ls", "stack ps",
    "stack rm", "stack services", "swarm ca", "swarm init", "swarm join", "swarm join-token", "swarm leave",
    "swarm unlock", "swarm unlock-key", "swarm update", "trust inspect", "trust revoke", "trust sign",
];

/// Groups and what they manage.
const GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("checkpoint", "Manage checkpoints"),
    ("config", "Manage configurations of a swarm"),
    ("container", "Manage containers"),
    ("context", "Manage contexts"),
    ("image", "Manage images"),
    ("manifest", "Manage image manifests and lists of them"),
    ("network", "Manage networks"),
    ("node", "Manage nodes of a swarm"),
    ("plugin", "Manage plugins"),
    ("secret", "Manage secrets of a swarm"),
    ("service", "Manage services of a swarm"),
    ("stack", "Manage stacks of a swarm"),
    ("swarm", "Manage a swarm"),
    ("system", "Manage the engine"),
    ("trust", "Manage trust in images"),
    ("volume", "Manage volumes"),
];

/// A command ready to run.
pub(crate) struct Call {
    entry: &'static Entry,
    matches: ArgMatches,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Call").field(&self.entry.names).finish()
    }
}

impl Call {
    /// Runs it.
    pub(crate) async fn run(&self, cli: &Cli) -> Result<i32, Error> {
        (self.entry.run)(cli, &self.matches).await
    }
}

/// What the words of the command came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// Help was shown.
    Done,
    /// Run this.
    Call(Call),
}

/// Finds the command that `args` start with and parses its arguments.
pub(crate) fn find(cli: &Cli, args: Vec<String>) -> Result<Found, Error> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.first() == Some(&"help") {
        return show_help(cli, &words[1..]);
    }
    let Some((name, length)) = resolve(&words) else { return unknown(cli, &words) };
    if MISSING.contains(&name.as_str()) {
        return Err(Error::new(format_args!("{}: '{} {name}' is not implemented yet", cli.program, cli.program)));
    }
    let Some(entry) = TABLE.iter().find(|entry| entry.names.contains(&name.as_str())) else {
        return unknown(cli, &words);
    };
    let full = format!("{} {name}", cli.program);
    let subject = Subject { name: &full, usage: entry.usage };
    let mut command = flags::adapt((entry.define)(), entry.options_first);
    let matches = flags::parse(&mut command, &args[length..], subject)?;
    if matches.get_flag("help") {
        table::put(&help_page(cli.program, entry, &full))?;
        return Ok(Found::Done);
    }
    let given = matches.try_get_many::<String>("args").ok().flatten().map_or(0, Iterator::count);
    flags::check_arity(entry.arity, given, subject)?;
    Ok(Found::Call(Call { entry, matches }))
}

/// The longest name that the words start with, and how many words it has.
fn resolve(words: &[&str]) -> Option<(String, usize)> {
    let known = |name: &str| MISSING.contains(&name) || TABLE.iter().any(|entry| entry.names.contains(&name));
    if let [group, command, ..] = words
        && GROUPS.iter().any(|(name, _)| name == group)
    {
        let name = format!("{group} {command}");
        return known(&name).then_some((name, 2));
    }
    let first = (*words.first()?).to_owned();
    known(&first).then_some((first, 1))
}

fn unknown(cli: &Cli, words: &[&str]) -> Result<Found, Error> {
    let program = cli.program;
    let first = words.first().copied().unwrap_or_default();
    let Some((group, about)) = GROUPS.iter().find(|(name, _)| *name == first) else {
        let text =
            format!("{program}: unknown command: {program} {first}\n\nRun '{program} --help' for more information");
        return Err(Error::Usage { text, code: 1 });
    };
    match words.get(1) {
        None | Some(&("--help" | "-h")) => {
            table::put(&group_page(program, group, about))?;
            Ok(Found::Done)
        }
        Some(flag) if flag.starts_with('-') => {
            let name = format!("{program} {group}");
            Err(flags::wrong_flag(&format!("unknown flag: {flag}"), Subject { name: &name, usage: "COMMAND" }))
        }
        Some(other) => {
            let text = format!(
                "{program}: unknown command: {program} {group} {other}\n\nUsage:  {program} {group}\n\nRun '{program} {group} --help' for more information"
            );
            Err(Error::Usage { text, code: 1 })
        }
    }
}

fn show_help(cli: &Cli, words: &[&str]) -> Result<Found, Error> {
    match (words, resolve(words)) {
        ([], _) => table::put(&overview(cli.program, &clap::Command::new("budu")))?,
        (_, Some((name, _))) => {
            let Some(entry) = TABLE.iter().find(|entry| entry.names.contains(&name.as_str())) else {
                return Err(Error::new(format_args!("{0}: '{0} {name}' is not implemented yet", cli.program)));
            };
            table::put(&help_page(cli.program, entry, &format!("{} {name}", cli.program)))?;
        }
        ([group], None) if GROUPS.iter().any(|(name, _)| name == group) => return unknown(cli, &[group]),
        _ => return Err(Error::new(format_args!("unknown help topic: {}", words.join(" ")))),
    }
    Ok(Found::Done)
}

fn help_page(program: &str, entry: &Entry, full: &str) -> String {
    let command = flags::adapt((entry.define)(), entry.options_first);
    let aliases: Vec<String> = entry.names.iter().map(|name| format!("{program} {name}")).collect();
    help::page(&command, full, entry.usage, entry.about, &aliases)
}

fn listed(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max(11);
    rows.iter().map(|(name, about)| format!("  {name:width$} {about}\n")).collect()
}

fn group_page(program: &str, group: &str, about: &str) -> String {
    let mut rows: Vec<(&str, &str)> = TABLE
        .iter()
        .filter_map(|entry| entry.names[0].strip_prefix(group)?.strip_prefix(' ').map(|name| (name, entry.about)))
        .collect();
    rows.sort_unstable();
    let rows = if rows.is_empty() { "  (none yet)\n".to_owned() } else { listed(&rows) };
    format!(
        "Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n{rows}\nRun '{program} {group} COMMAND --help' for more information on a command.\n"
    )
}

/// The page of the program itself.
pub(crate) fn overview(program: &str, globals: &clap::Command) -> String {
    let common = ["run", "exec", "ps", "pull", "images", "version", "info"];
    let short = |entry: &'static Entry| (*entry.names.last().expect("every command has a name"), entry.about);
    let direct: Vec<(&str, &str)> = TABLE.iter().map(short).filter(|(name, _)| !name.contains(' ')).collect();
    let (first, mut others): (Vec<_>, Vec<_>) = direct.into_iter().partition(|(name, _)| common.contains(name));
    others.push(("daemon", "Run the engine itself"));
    others.sort_unstable();
    let groups: Vec<(&str, &str)> = GROUPS
        .iter()
        .filter(|(group, _)| {
            TABLE.iter().any(|entry| entry.names[0].split(' ').next() == Some(group) && entry.names[0].contains(' '))
        })
        .copied()
        .collect();
    let mut page = format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA container engine in one program\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}",
        listed(&first),
        listed(&groups),
        listed(&others)
    );
    let options = help::options(globals, 80);
    if !options.is_empty() {
        page.push_str("\nGlobal Options:\n");
        page.push_str(&options);
    }
    page.push_str(&format!("\nRun '{program} COMMAND --help' for more information on a command.\n"));
    page
}
