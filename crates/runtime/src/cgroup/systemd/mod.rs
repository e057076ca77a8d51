//! Groups made by systemd: a transient scope unit around a container's first
//! process, or a slice.
//!
//! systemd is asked over D-Bus: the system's, or in rootless mode the user's
//! own manager. It is told the limits too, for otherwise it would take them
//! back; what it has no word for is written to the group's files afterwards.

use std::path::Path;

use budu_sys::cgroup::{self, Cgroup, Layout, Version};
use budu_sys::dbus::{self, Connection, Value};
use rustix::process::Pid;

use super::place::Place;
use super::translate::translate;
use crate::init::{Failing, invalid};
use crate::plan::CgroupPlan;
use crate::protocol::{Failure, FailureClass};

mod devices;
mod properties;
mod unit;
mod variant;

pub(super) use unit::Unit;

type Property = (String, Value);

const MANAGER: (&str, &str, &str) =
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const PROPERTIES: (&str, &str, &str) =
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties");

impl From<dbus::Error> for Failure {
    fn from(error: dbus::Error) -> Failure {
        Failure { class: FailureClass::Internal, message: format!("systemd: {error}") }
    }
}

/// A manager we talk to.
struct Manager {
    connection: Connection,
    version: u32,
}

impl Manager {
    fn connect(user: bool) -> Failing<Manager> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(invalid("systemd not running on this host, cannot use systemd cgroups manager".to_owned()));
        }
        let connection = if user {
            let address = dbus::user_bus().ok_or_else(|| {
                invalid(
                    "could not detect DBUS_SESSION_BUS_ADDRESS from the environment; make sure you have installed \
                     the dbus-user-session or dbus-daemon package; note you may need to re-login"
                        .to_owned(),
                )
            })?;
            Connection::bus(&address)?
        } else {
            // Early in boot, or on small systems, there is no bus, but root may speak to systemd itself.
            Connection::bus(&dbus::system_bus())
                .or_else(|error| Connection::direct("unix:path=/run/systemd/private").map_err(|_| error))?
        };
        Manager::over(connection)
    }

    fn over(connection: Connection) -> Failing<Manager> {
        let mut manager = Manager { connection, version: 0 };
        manager.version = version(&manager.property("Version")?);
        Ok(manager)
    }

    /// A property of the manager that is text.
    fn property(&mut self, name: &str) -> Failing<String> {
        let wish = vec![Value::text(MANAGER.2), Value::text(name)];
        let answer = self.connection.call(PROPERTIES, "Get", wish)?;
        Ok(answer.first().and_then(Value::as_text).unwrap_or_default().to_owned())
    }

    /// Asks for the news of jobs before there is one.
    fn listen(&mut self) -> Failing<()> {
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',\
                    path='/org/freedesktop/systemd1'";
        let bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        // systemd's private socket is no bus and tells everybody.
        let _ = self.connection.call(bus, "AddMatch", vec![Value::text(rule)]);
        match self.connection.call(MANAGER, "Subscribe", Vec::new()) {
            Err(error) if !error.is("org.freedesktop.systemd1.AlreadySubscribed") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Waits for the end of a job; `done` is a good one.
    fn job(&mut self, answer: &[Value]) -> Failing<String> {
        let job = answer.first().and_then(Value::as_text).unwrap_or_default().to_owned();
        let told = self.connection.signal("systemd's job", |signal| {
            signal.member == "JobRemoved" && signal.body.get(1).and_then(Value::as_text) == Some(&job)
        })?;
        Ok(told.body.get(3).and_then(Value::as_text).unwrap_or_default().to_owned())
    }

    /// Makes a unit and waits until it stands.
    fn start(&mut self, unit: &str, properties: Vec<Property>) -> Failing<()> {
        self.listen()?;
        let body = vec![
            Value::text(unit),
            Value::text("replace"),
            list(properties),
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let mut answer = self.connection.call(MANAGER, "StartTransientUnit", body.clone());
        if answer.as_ref().is_err_and(|error| error.is("org.freedesktop.systemd1.UnitExists")) {
            // One that failed earlier is kept to be looked at, until it is reset.
            let _ = self.reset(unit);
            answer = self.connection.call(MANAGER, "StartTransientUnit", body);
        }
        let fail = |reason: String| Failure {
            class: FailureClass::Internal,
            message: format!("unable to apply cgroup configuration: unable to start unit {unit:?}: {reason}"),
        };
        let result = self.job(&answer.map_err(|error| fail(error.to_string()))?);
        match result {
            Ok(result) if result == "done" => Ok(()),
            other => {
                let _ = self.reset(unit);
                Err(fail(other.map_or_else(|failure| failure.message, |result| format!("got `{result}`"))))
            }
        }
    }

    /// As [`Manager::start`], with what the plan's annotations ask for besides.
    fn start_annotated(&mut self, unit: &str, mut properties: Vec<Property>, plan: &CgroupPlan) -> Failing<()> {
        properties.extend(variant::annotated(&plan.scope_properties)?);
        self.start(unit, properties)
    }

    /// Ends a unit and waits for its end. One that ended by itself is fine.
    fn stop(&mut self, unit: &str) -> Failing<()> {
        self.listen()?;
        let wish = vec![Value::text(unit), Value::text("replace")];
        let result = match self.connection.call(MANAGER, "StopUnit", wish) {
            Ok(answer) => self.job(&answer).map(drop),
            Err(dbus::Error::Answer { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let _ = self.reset(unit);
        result
    }

    fn reset(&mut self, unit: &str) -> Result<(), dbus::Error> {
        self.connection.call(MANAGER, "ResetFailedUnit", vec![Value::text(unit)]).map(drop)
    }

    fn set(&mut self, unit: &str, properties: Vec<Property>) -> Failing<()> {
        let wish = vec![Value::text(unit), Value::Bool(true), list(properties)];
        self.connection.call(MANAGER, "SetUnitProperties", wish).map_err(|error| Failure {
            class: FailureClass::Internal,
            message: format!("unable to set unit properties: {error}"),
        })?;
        Ok(())
    }
}

fn list(properties: Vec<Property>) -> Value {
    let pair = |(name, value): Property| Value::Struct(vec![Value::Text(name), value.boxed()]);
    Value::Array("(sv)".to_owned(), properties.into_iter().map(pair).collect())
}

/// The number in `v245.4-1.fc32`; 0 when there is none.
fn version(text: &str) -> u32 {
    let digits: String = text.trim_start_matches(['"', 'v']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Where systemd will put a plan's group.
pub(super) fn resolve(layout: &Layout, plan: &CgroupPlan, id: &str) -> Failing<Place> {
    let unit = Unit::parse(&plan.path, id, is_user())?;
    if unit.user && layout.version == Version::V1 {
        return Err(invalid("cannot use rootless systemd cgroups manager on cgroup v1".to_owned()));
    }
    let base = if unit.user { Manager::connect(true)?.property("ControlGroup")? } else { String::new() };
    unit.place(&base)
}

/// Whether the manager of a user is asked: somebody who is not root on the host
/// has no say in the system's.
pub(super) fn is_user() -> bool {
    let initial = std::fs::read_to_string("/proc/self/uid_map");
    let initial = initial.is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    !rustix::process::geteuid().is_root() || !initial
}

/// Makes a unit around a process, with its limits.
pub(super) fn make(layout: &Layout, plan: &CgroupPlan, id: &str, pid: Pid) -> Failing<Cgroup> {
    let place = resolve(layout, plan, id)?;
    let unit = Unit::parse(&plan.path, id, is_user())?;
    if let Ok(group) = Cgroup::open(layout, &place.path) {
        group.check_unused()?;
    }
    let mut resources = translate(&plan.resources)?;
    let mut manager = Manager::connect(unit.user)?;
    let mut properties = unit.properties(id, layout.version, pid);
    properties.extend(properties::resources(layout.version, manager.version, &mut resources)?);
    manager.start_annotated(&unit.name, properties, plan)?;
    let mut wish = cgroup::plan(layout, &place.path, &resources)?;
    wish.adopt = true;
    wish.lenient = unit.user;
    let group = wish.apply()?;
    group.take_in(pid)?;
    if let Some(owner) = plan.owner {
        group.delegate(owner)?;
    }
    Ok(group)
}

/// Tells systemd of new limits. May round the processor quota, for what is to
/// be written to files then.
pub(super) fn update(layout: &Layout, unit: &Unit, resources: &mut cgroup::Resources) -> Failing<()> {
    let mut manager = Manager::connect(unit.user)?;
    let properties = properties::resources(layout.version, manager.version, resources)?;
    manager.set(&unit.name, properties)
}

/// Ends a unit whose processes have been killed.
pub(super) fn stop(unit: &Unit) -> Failing<()> {
    Manager::connect(unit.user)?.stop(&unit.name)
}

#[cfg(test)]
mod tests;
