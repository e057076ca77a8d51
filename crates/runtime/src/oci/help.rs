//! What `--help` prints.

/// A command: name, what it is followed by, what it does, its options.
type Command = (&'static str, &'static str, &'static str, &'static str);

const COMMANDS: &[Command] = &[
    (
        "checkpoint",
        "<container-id>",
        "checkpoint a running container",
        "\
--image-path value            path for saving criu image files
--work-path value             path for saving work files and logs
--parent-path value           path for previous criu image files in pre-dump
--leave-running               leave the process running after checkpointing
--tcp-established             allow open tcp connections
--tcp-skip-in-flight          skip in-flight TCP connections
--ext-unix-sk                 allow external unix sockets
--shell-job                   allow shell jobs
--lazy-pages                  use userfaultfd to lazily restore memory pages
--file-locks                  handle file locks, for safety
--pre-dump                    dump container's memory information only, leave the container running after this
--manage-cgroups-mode value   cgroups mode: soft, full, strict or ignore
--empty-ns value              create a namespace, but don't restore its properties
--auto-dedup                  enable auto deduplication of memory images",
    ),
    ("create", "<container-id>", "create a container", CREATE),
    (
        "delete",
        "<container-id>",
        "delete any resources held by the container",
        "--force, -f  kill the container first if it is still running",
    ),
    (
        "events",
        "<container-id>",
        "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        "\
--interval value  set the stats collection interval (default: 5s)
--stats           display the container's stats then exit",
    ),
    (
        "exec",
        "<container-id> <command> [command options]  || -p process.json <container-id>",
        "execute new process inside the container",
        "\
--console-socket value        path to an AF_UNIX socket which will receive the terminal
--pidfd-socket value          path to an AF_UNIX socket which will receive a pidfd of the process
--cwd value                   current working directory in the container
--env value, -e value         set environment variables
--tty, -t                     allocate a pseudo-TTY
--user value, -u value        UID (format: <uid>[:<gid>])
--additional-gids value, -g   additional gids
--process value, -p value     path to the process.json
--detach, -d                  detach from the container's process
--pid-file value              specify the file to write the process id to
--process-label value         set the SELinux label of the process
--apparmor value              set the AppArmor profile of the process
--no-new-privs                set the no new privileges value for the process
--cap value, -c value         add a capability to the bounding set of the process
--preserve-fds value          pass N additional file descriptors to the container
--cgroup value                run the process in an (existing) sub-cgroup: [<controllers>:]<cgroup>
--ignore-paused               allow exec in a paused container",
    ),
    ("features", "", "show the enabled features", ""),
    (
        "kill",
        "<container-id> [signal]",
        "send the specified signal (default: SIGTERM) to the container's init process",
        "--all, -a  send the signal to all processes inside the container",
    ),
    (
        "list",
        "",
        "list containers started with the given root",
        "\
--format value, -f value  table or json (default: table)
--quiet, -q               display only container IDs",
    ),
    ("pause", "<container-id>", "suspend all processes inside the container", ""),
    (
        "ps",
        "<container-id> [ps options]",
        "display the processes running inside a container",
        "--format value, -f value  table or json (default: table)",
    ),
    (
        "restore",
        "<container-id>",
        "restore a container from a previous checkpoint",
        "\
--bundle value, -b value      path to the root of the bundle directory
--console-socket value        path to an AF_UNIX socket which will receive the terminal
--image-path value            path to criu image files
--work-path value             path for saving work files and logs
--detach, -d                  detach from the container's process
--pid-file value              specify the file to write the process id to
--no-subreaper                do not reap orphans of the container
--no-pivot                    do not use pivot_root
--tcp-established             allow open tcp connections
--ext-unix-sk                 allow external unix sockets
--shell-job                   allow shell jobs
--file-locks                  handle file locks, for safety
--manage-cgroups-mode value   cgroups mode: soft, full, strict or ignore
--empty-ns value              create a namespace, but don't restore its properties
--auto-dedup                  enable auto deduplication of memory images
--lazy-pages                  use userfaultfd to lazily restore memory pages",
    ),
    ("resume", "<container-id>", "resume all processes that have been previously paused", ""),
    ("run", "<container-id>", "create and run a container", RUN),
    (
        "spec",
        "",
        "create a new specification file",
        "\
--bundle value, -b value  path to the root of the bundle directory
--rootless                generate a configuration for a rootless container",
    ),
    ("start", "<container-id>", "execute the user defined process in a created container", ""),
    ("state", "<container-id>", "output the state of a container", ""),
    (
        "update",
        "<container-id>",
        "update container resource constraints",
        "\
--resources value, -r value   path to a file with the resources to update, - for standard input
--blkio-weight value          block IO weight, 10 to 1000
--cpu-period value            CPU CFS period, microseconds
--cpu-quota value             CPU CFS quota, microseconds
--cpu-burst value             CPU CFS burst, microseconds
--cpu-share value             CPU shares (relative weight)
--cpu-rt-period value         CPU realtime period, microseconds
--cpu-rt-runtime value        CPU realtime runtime, microseconds
--cpuset-cpus value           CPU(s) to use
--cpuset-mems value           memory node(s) to use
--cpu-idle value              0 or 1
--memory value                memory limit, bytes
--memory-reservation value    soft memory limit, bytes
--memory-swap value           memory and swap together, bytes; -1 for no limit
--pids-limit value            maximum number of processes
--l3-cache-schema value       Intel RDT cache schema
--mem-bw-schema value         Intel RDT memory bandwidth schema",
    ),
];

const CREATE: &str = "\
--bundle value, -b value  path to the root of the bundle directory, defaults to the current directory
--console-socket value    path to an AF_UNIX socket which will receive the terminal
--pidfd-socket value      path to an AF_UNIX socket which will receive a pidfd of the container's init process
--pid-file value          specify the file to write the process id to
--no-pivot                do not use pivot_root: for a root that is a ramfs
--no-new-keyring          do not create a new session keyring for the container
--preserve-fds value      pass N additional file descriptors to the container";

const RUN: &str = "\
--bundle value, -b value  path to the root of the bundle directory, defaults to the current directory
--console-socket value    path to an AF_UNIX socket which will receive the terminal
--pidfd-socket value      path to an AF_UNIX socket which will receive a pidfd of the container's init process
--detach, -d              detach from the container's process
--keep                    do not delete the container after it exits
--pid-file value          specify the file to write the process id to
--no-subreaper            do not reap orphans of the container
--no-pivot                do not use pivot_root: for a root that is a ramfs
--no-new-keyring          do not create a new session keyring for the container
--preserve-fds value      pass N additional file descriptors to the container";

const GLOBAL: &str = "\
--debug             enable debug logging
--log value         write the log to a file, besides errors on standard error
--log-format value  format of the log: text or json (default: text)
--root value        directory for the state of containers (default: /run/budu/oci)
--systemd-cgroup    let systemd make cgroups; cgroupsPath is slice:prefix:name
--rootless value    ignore cgroup permission errors: true, false or auto (default: auto)
--help, -h          show help
--version, -v       print the version";

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}

/// Help for the whole command line; `name` is what it was called by.
pub(super) fn overview(name: &str) -> String {
    let commands: String = COMMANDS.iter().map(|(command, _, what, _)| format!("{command:12}{what}\n")).collect();
    format!(
        "NAME:\n   {name} - Open Container Initiative runtime\n\nUSAGE:\n   {name} [global options] command [command options] \
         [arguments...]\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
        indented(&commands),
        indented(GLOBAL)
    )
}

/// Help for one command, if there is one of that name.
pub(super) fn of_command(name: &str, command: &str) -> Option<String> {
    let (_, arguments, what, options) = COMMANDS.iter().find(|(known, ..)| *known == command)?;
    let mut text =
        format!("NAME:\n   {name} {command} - {what}\n\nUSAGE:\n   {name} {command} [command options] {arguments}\n");
    if !options.is_empty() {
        text.push_str(&format!("\nOPTIONS:\n{}", indented(options)));
    }
    Some(text)
}
