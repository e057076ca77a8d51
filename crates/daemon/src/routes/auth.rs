//! `POST /auth`: whether a registry accepts credentials.

use budu_image::RegistryAuth;
use budu_spec::docker::AuthConfig;
use serde_json::json;

use crate::http::{Call, Reply, ok};

/// `POST /auth`.
pub(crate) async fn auth(mut call: Call) -> Reply {
    let given: AuthConfig = call.json().await?;
    let auth = RegistryAuth {
        username: given.username,
        password: given.password,
        auth: String::new(),
        serveraddress: given.serveraddress,
        identitytoken: given.identitytoken,
        registrytoken: given.registrytoken,
    };
    call.app.engine.images().login(&auth).await?;
    ok(&json!({"IdentityToken": "", "Status": "Login Succeeded"}))
}
