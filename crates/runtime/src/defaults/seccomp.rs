//! Seccomp profiles: Docker's own, and those that users bring in Docker's or in OCI format.
//!
//! A profile holds rules for many hosts. [`Profile::filter`] keeps what applies to one [`Host`]; [`default_program`]
//! does that for the built-in profile, compiles it and remembers the result per set of capabilities.

use budu_spec::{Classified, ErrorClass, oci};
use budu_sys::capability::{CapSet, Capability};
use budu_sys::seccomp::{self, Action, Arch, Arg, Filter, Flags, Op, Program, Rule};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const DEFAULT_JSON: &str = include_str!("seccomp-default.json");
const EPERM: u16 = 1;
/// Sets of capabilities come from users: remember only this many.
const REMEMBERED: usize = 64;

/// Actions, sorted.
pub(crate) const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
/// Operators, sorted.
pub(crate) const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];
/// Architectures that may stand in a profile, sorted. The compiler has tables for fewer: for those of hosts that run us.
pub(crate) const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];
/// Flags, and the kernel since which they may be given to any filter. The last one is taken only together with a
/// listener, so it is understood but not supported in general.
pub(crate) const FLAGS: [(&str, Option<(u32, u32)>); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", Some((3, 17))),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Some((4, 17))),
    ("SECCOMP_FILTER_FLAG_LOG", Some((4, 14))),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", None),
];

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// No JSON, or not of the right shape.
    #[error("decoding seccomp profile failed: {source}")]
    Decode {
        /// Where and what.
        source: serde_json::Error,
    },
    /// Contradictions and unknown words.
    #[error("invalid seccomp profile: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The kernel could not run it.
    #[error("cannot compile seccomp profile: {source}")]
    Compile {
        /// Why.
        source: seccomp::Error,
    },
    /// The host's architecture has no table of system calls here.
    #[error("seccomp profiles are not available on this architecture: use --security-opt seccomp=unconfined")]
    Architecture,
}

impl Classified for SeccompError {
    fn class(&self) -> ErrorClass {
        match self {
            SeccompError::Architecture => ErrorClass::NotImplemented,
            _ => ErrorClass::InvalidArgument,
        }
    }
}

fn invalid(reason: impl Into<String>) -> SeccompError {
    SeccompError::Invalid { reason: reason.into() }
}

/// What the conditions of a profile are judged against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The container's capabilities (its bounding set).
    pub capabilities: CapSet,
    /// The host's architecture.
    pub arch: Arch,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

impl Host {
    /// This host, for a container with these capabilities.
    ///
    /// # Errors
    /// [`SeccompError::Architecture`].
    pub fn current(capabilities: CapSet) -> Result<Host, SeccompError> {
        let arch = Arch::native().ok_or(SeccompError::Architecture)?;
        Ok(Host { capabilities, arch, kernel: budu_sys::kernel::version() })
    }
}

/// A profile in Docker's format, of which OCI's is a part. Lists may be absent or null, as Go writes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<ProfileRule>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<ProfileArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileArg {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// Reads JSON in Docker's or OCI's format.
    ///
    /// # Errors
    /// [`SeccompError::Decode`], and [`SeccompError::Invalid`] for fields that exclude each other.
    pub fn parse(json: &str) -> Result<Profile, SeccompError> {
        let profile: Profile = serde_json::from_str(json).map_err(|source| SeccompError::Decode { source })?;
        let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if filled(&profile.architectures) && profile.arch_map.as_ref().is_some_and(|map| !map.is_empty()) {
            return Err(invalid("use either 'architectures' or 'archMap', not both"));
        }
        for rule in profile.syscalls.iter().flatten() {
            if rule.name.as_ref().is_some_and(|name| !name.is_empty()) && filled(&rule.names) {
                return Err(invalid("use either 'name' or 'names' in a rule, not both"));
            }
        }
        Ok(profile)
    }

    /// The profile that applies when the user brings none. Parsed once per process.
    pub fn built_in() -> &'static Profile {
        static PROFILE: OnceLock<Profile> = OnceLock::new();
        PROFILE.get_or_init(|| Profile::parse(DEFAULT_JSON).expect("a test parses the embedded profile"))
    }

    /// What applies on one host.
    ///
    /// # Errors
    /// [`SeccompError::Invalid`] for unknown actions, operators, flags or kernel versions.
    pub fn filter(&self, host: &Host) -> Result<Filter, SeccompError> {
        let mut arches = vec![host.arch];
        let map = self.arch_map.iter().flatten().find(|map| map.architecture == host.arch.oci_name());
        let more = map.and_then(|map| map.sub_architectures.as_ref()).or(self.architectures.as_ref());
        add_architectures(&mut arches, more.into_iter().flatten())?;
        let mut rules = Vec::new();
        for rule in self.syscalls.iter().flatten() {
            if rule.applies(host)? {
                rules.push(rule.compile()?);
            }
        }
        Ok(Filter {
            default: action(&self.default_action, self.default_errno_ret)?,
            arches,
            rules,
            flags: flags(self.flags.iter().flatten())?,
        })
    }
}

impl ProfileRule {
    fn applies(&self, host: &Host) -> Result<bool, SeccompError> {
        let has = |name: &String| Capability::from_name(name).is_some_and(|one| host.capabilities.contains(one));
        let here = |name: &String| name == go_name(host.arch);
        if let Some(excludes) = &self.excludes
            && (excludes.arches.iter().flatten().any(here)
                || excludes.caps.iter().flatten().any(has)
                || min_kernel(excludes)?.is_some_and(|version| host.kernel >= version))
        {
            return Ok(false);
        }
        let Some(includes) = &self.includes else { return Ok(true) };
        let arch = includes.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(here));
        let caps = includes.caps.iter().flatten().all(has);
        let kernel = min_kernel(includes)?.is_none_or(|version| host.kernel >= version);
        Ok(arch && caps && kernel)
    }

    fn compile(&self) -> Result<Rule, SeccompError> {
        let syscalls = self.names.iter().flatten().chain(self.name.iter().filter(|name| !name.is_empty()));
        let args = self.args.iter().flatten().map(|arg| condition(arg.index, &arg.op, arg.value, arg.value_two));
        Ok(Rule {
            syscalls: syscalls.cloned().collect(),
            action: action(&self.action, self.errno_ret)?,
            args: args.collect::<Result<_, _>>()?,
        })
    }
}

/// The filter of a `config.json`.
///
/// # Errors
/// [`SeccompError::Invalid`] for unknown words.
pub fn oci_filter(config: &oci::Seccomp) -> Result<Filter, SeccompError> {
    let mut arches: Vec<Arch> = Arch::native().into_iter().collect();
    add_architectures(&mut arches, config.architectures.iter())?;
    let mut rules = Vec::with_capacity(config.syscalls.len());
    for rule in &config.syscalls {
        let args = rule.args.iter().map(|arg| condition(arg.index, &arg.op, arg.value, arg.value_two));
        rules.push(Rule {
            syscalls: rule.names.clone(),
            action: action(&rule.action, rule.errno_ret)?,
            args: args.collect::<Result<_, _>>()?,
        });
    }
    let default = action(&config.default_action, config.default_errno_ret)?;
    Ok(Filter { default, arches, rules, flags: flags(config.flags.iter().flatten())? })
}

/// The compiled filter of the built-in profile, remembered per set of capabilities.
///
/// # Errors
/// [`SeccompError::Architecture`]; the profile itself is tested.
pub fn default_program(capabilities: CapSet) -> Result<Arc<Program>, SeccompError> {
    static PROGRAMS: Mutex<Option<HashMap<CapSet, Arc<Program>>>> = Mutex::new(None);
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = programs.get_or_insert_default();
    if let Some(program) = programs.get(&capabilities) {
        return Ok(Arc::clone(program));
    }
    let filter = Profile::built_in().filter(&Host::current(capabilities)?)?;
    let program = Arc::new(compile(&filter)?);
    if programs.len() >= REMEMBERED {
        programs.clear();
    }
    programs.insert(capabilities, Arc::clone(&program));
    Ok(program)
}

/// The compiled filter of a profile that the user brings (`--security-opt seccomp=JSON`).
///
/// # Errors
/// All of [`SeccompError`].
pub fn custom_program(json: &str, capabilities: CapSet) -> Result<Program, SeccompError> {
    compile(&Profile::parse(json)?.filter(&Host::current(capabilities)?)?)
}

/// The compiled filter of a `config.json`.
///
/// # Errors
/// All of [`SeccompError`].
pub fn oci_program(config: &oci::Seccomp) -> Result<Program, SeccompError> {
    compile(&oci_filter(config)?)
}

fn compile(filter: &Filter) -> Result<Program, SeccompError> {
    seccomp::compile(filter).map_err(|source| SeccompError::Compile { source })
}

/// Known ones are added once each. Real ones this compiler has no table for cannot occur on a host that runs us.
fn add_architectures<'a>(arches: &mut Vec<Arch>, names: impl Iterator<Item = &'a String>) -> Result<(), SeccompError> {
    for name in names {
        if !ARCHITECTURES.contains(&name.as_str()) {
            return Err(invalid(format!("string {name} is not a valid arch for seccomp")));
        }
        if let Some(arch) = Arch::from_oci_name(name)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    }
    Ok(())
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
    let code = match errno {
        None => EPERM,
        // The kernel has no larger errno.
        Some(errno) => u16::try_from(errno)
            .ok()
            .filter(|errno| *errno <= 4095)
            .ok_or_else(|| invalid(format!("errnoRet {errno} is not in 0..=4095")))?,
    };
    let action = match name {
        "SCMP_ACT_ERRNO" => return Ok(Action::Errno(code)),
        "SCMP_ACT_TRACE" => return Ok(Action::Trace(code)),
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRAP" => Action::Trap(0),
        "SCMP_ACT_NOTIFY" => Action::Notify,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        _ => return Err(invalid(format!("string {name} is not a valid action for seccomp"))),
    };
    match errno {
        Some(_) => Err(invalid(format!("errnoRet has no meaning for {name}"))),
        None => Ok(action),
    }
}

fn condition(index: u32, op: &str, value: u64, value_two: u64) -> Result<Arg, SeccompError> {
    let op = match op {
        "SCMP_CMP_NE" => Op::NotEqual,
        "SCMP_CMP_LT" => Op::Less,
        "SCMP_CMP_LE" => Op::LessOrEqual,
        "SCMP_CMP_EQ" => Op::Equal,
        "SCMP_CMP_GE" => Op::GreaterOrEqual,
        "SCMP_CMP_GT" => Op::Greater,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEqual,
        _ => return Err(invalid(format!("string {op} is not a valid operator for seccomp"))),
    };
    let index = u8::try_from(index)
        .ok()
        .filter(|index| *index <= 5)
        .ok_or_else(|| invalid(format!("argument index {index} is not in 0..=5")))?;
    Ok(Arg { index, op, value, value_two })
}

fn flags<'a>(names: impl Iterator<Item = &'a String>) -> Result<Flags, SeccompError> {
    let mut flags = Flags::default();
    for name in names {
        match name.as_str() {
            // A container's first process has one thread when its filter is installed: nothing to synchronise.
            "SECCOMP_FILTER_FLAG_TSYNC" => {}
            "SECCOMP_FILTER_FLAG_LOG" => flags.log = true,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => flags.spec_allow = true,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => flags.wait_killable_recv = true,
            _ => return Err(invalid(format!("seccomp flag {name} is not known"))),
        }
    }
    Ok(flags)
}

fn min_kernel(condition: &Condition) -> Result<Option<(u32, u32)>, SeccompError> {
    let Some(text) = condition.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bad = || invalid(format!("minKernel {text:?} must be MAJOR.MINOR"));
    let (major, minor) = text.split_once('.').ok_or_else(bad)?;
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok(Some((major, minor))),
        _ => Err(bad()),
    }
}

/// What profiles call an architecture in their conditions: Go's names.
fn go_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390x => "s390x",
        Arch::Loongarch64 => "loong64",
    }
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
