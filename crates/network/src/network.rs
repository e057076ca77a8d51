//! A network as users inspect it.

use std::ops::Deref;
use std::sync::Arc;

use crate::{Definition, Endpoint};

/// One network and who is in it.
#[derive(Debug, Clone)]
pub struct Network {
    /// What it is.
    pub definition: Arc<Definition>,
    /// Places of containers that run, by container id.
    pub endpoints: Vec<Endpoint>,
}

impl Deref for Network {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        &self.definition
    }
}
