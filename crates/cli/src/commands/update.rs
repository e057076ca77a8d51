//! `update`.

use budu_spec::docker::{ContainerUpdate, ContainerUpdated, Resources};

use super::Command;
use super::run::path_of;
use crate::cli::Cli;
use crate::client::Call;
use crate::create;
use crate::error::Error;
use crate::flags::{Arity, parse_int, parse_size, parse_swap, parse_u16};
use crate::table::put_line;

/// `update`.
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    /// Relative weight of block IO, 10 to 1000, 0 for the default
    #[arg(long, value_name = "uint16", value_parser = parse_u16)]
    blkio_weight: Option<u16>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "int", value_parser = parse_int)]
    cpu_period: Option<i64>,
    /// CPU time per period in microseconds
    #[arg(long, value_name = "int", value_parser = parse_int)]
    cpu_quota: Option<i64>,
    /// Length of a real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = parse_int)]
    cpu_rt_period: Option<i64>,
    /// Real-time run time per period in microseconds
    #[arg(long, value_name = "int", value_parser = parse_int)]
    cpu_rt_runtime: Option<i64>,
    /// Relative weight of CPU time
    #[arg(short, long, value_name = "int", value_parser = parse_int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = create::cpus)]
    cpus: Option<i64>,
    /// CPUs that may be used (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Ignored
    #[arg(long, value_name = "bytes", hide = true, value_parser = parse_size)]
    kernel_memory: Option<i64>,
    /// Limit of memory
    #[arg(short, long, value_name = "bytes", value_parser = parse_size)]
    memory: Option<i64>,
    /// Soft limit of memory
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    memory_reservation: Option<i64>,
    /// Limit of memory and swap together, -1 for no limit
    #[arg(long, value_name = "bytes", value_parser = parse_swap)]
    memory_swap: Option<i64>,
    /// Limit of processes, -1 for no limit
    #[arg(long, value_name = "int", value_parser = parse_int)]
    pids_limit: Option<i64>,
    /// When to start the container again
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    args: Vec<String>,
}

impl Command for Update {
    const ABOUT: &'static str = "Change the limits of one or more containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, cli: &Cli) -> Result<i32, Error> {
        let Some(wish) = self.wish()? else {
            return Err(Error::new("you must provide one or more flags when using this command"));
        };
        let client = cli.client()?;
        let (mut warnings, mut code) = (Vec::new(), 0);
        for name in &self.args {
            let call = Call::post(format!("{}/update", path_of(name))).json(&wish);
            match client.json::<ContainerUpdated>(call).await {
                Ok(updated) => {
                    put_line(name)?;
                    warnings.extend(updated.warnings);
                }
                Err(error) => {
                    eprintln!("{error}");
                    code = 1;
                }
            }
        }
        for warning in warnings {
            eprintln!("{warning}");
        }
        Ok(code)
    }
}

impl Update {
    /// What is asked for; `None` when no flag is given.
    fn wish(&self) -> Result<Option<ContainerUpdate>, Error> {
        let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
        let resources = Resources {
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            nano_cpus: self.cpus.unwrap_or_default(),
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            memory: self.memory.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            pids_limit: self.pids_limit,
            ..Resources::default()
        };
        let restart_policy = self.restart.as_deref().map(create::restart_policy).transpose()?.unwrap_or_default();
        let given = resources != Resources::default()
            || self.restart.is_some()
            || self.kernel_memory.is_some()
            || [self.cpu_period, self.cpu_quota, self.cpu_rt_period, self.cpu_rt_runtime, self.cpu_shares, self.cpus]
                .iter()
                .chain([&self.memory, &self.memory_reservation, &self.memory_swap])
                .any(Option::is_some)
            || self.blkio_weight.is_some();
        Ok(given.then_some(ContainerUpdate { resources, restart_policy }))
    }
}
