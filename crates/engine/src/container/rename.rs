//! Rename.

use crate::{Engine, Error};

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::Invalid`].
    pub async fn rename(&self, old: &str, new: &str) -> Result<(), Error> {
        if old.is_empty() || new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let new = new.strip_prefix('/').unwrap_or(new);
        let container = self.find(old)?;
        // Here Docker says the name with its slash.
        if !budu_spec::names::is_valid(new) {
            let rule = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
            let message = format!("Error when allocating new name: Invalid container name (/{new}), {rule}");
            return Err(Error::invalid(message));
        }
        let _turn = container.turn.lock().await;
        let mut record = (*container.record()).clone();
        if record.name == new {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.reserve_name(Some(new), &container.id)?;
        let old = std::mem::replace(&mut record.name, new.to_owned());
        if let Err(error) = self.save_record(&container, record) {
            self.free_name(new, &container.id);
            return Err(error);
        }
        self.free_name(&old, &container.id);
        if let Some(sandbox) = self.networks().rename(container.id.as_str(), new) {
            container.state().sandbox = Some(sandbox);
            self.keep_state(&container, false);
        }
        self.tell(&container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }
}
