//! The protocol against a plugin that answers from a script.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// A plugin that answers each method; returns what it was asked.
fn serve(
    listener: UnixListener,
    answer: fn(&str) -> (u16, &'static str),
) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let length = |text: &str| -> Option<usize> {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let line =
                    head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                (body.len() >= line.unwrap_or(0)).then_some(0)
            };
            while length(&text).is_none() {
                let mut piece = [0u8; 4096];
                let count = stream.read(&mut piece).await.unwrap();
                text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
            }
            let method = text.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let (status, body) = answer(&method);
            let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
            let _ = sender.send(text);
        }
    });
    receiver
}

fn answers(method: &str) -> (u16, &'static str) {
    match method {
        "Plugin.Activate" => (200, r#"{"Implements":["VolumeDriver"]}"#),
        "VolumeDriver.Get" => (500, r#"{"Err":"no such volume"}"#),
        "VolumeDriver.Path" => (404, "404 page not found\n"),
        _ => (200, r#"{"Mountpoint":"/x"}"#),
    }
}

#[tokio::test]
async fn handshake_once_then_calls_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("vol.sock")).unwrap();
    let mut asked = serve(listener, answers);
    let plugins = Plugins::new(PluginPlaces { sockets: dir.path().to_owned(), specs: Vec::new() });
    let plugin = plugins.get("vol", "VolumeDriver").await.unwrap();
    let question = serde_json::json!({"Name": "data"});
    let second = Duration::from_secs(10);
    let answer: serde_json::Value = plugin.call("VolumeDriver.Mount", &question, second).await.unwrap();
    assert_eq!(answer["Mountpoint"], "/x");
    let refused = plugin.call::<_, serde_json::Value>("VolumeDriver.Get", &question, second).await.unwrap_err();
    assert_eq!(refused.to_string(), "VolumeDriver.Get: no such volume");
    let missing = plugin.call::<_, serde_json::Value>("VolumeDriver.Path", &question, second).await.unwrap_err();
    assert!(
        matches!(missing, PluginError::Refused { status: 404, ref message, .. } if message == "404 page not found")
    );
    let other = plugins.get("vol", "authz").await.unwrap_err().to_string();
    assert!(other.contains("does not implement the requested driver authz"), "{other}");
    assert_eq!(plugins.known("VolumeDriver"), ["vol"]);
    let first = asked.recv().await.unwrap();
    assert!(first.starts_with("POST /Plugin.Activate HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("application/vnd.docker.plugins.v1.2+json"), "{first}");
    // The handshake is made once.
    assert!(asked.recv().await.unwrap().starts_with("POST /VolumeDriver.Mount"));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_starts_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("late.sock");
    drop(UnixListener::bind(&path).unwrap());
    let plugins = Plugins::new(PluginPlaces { sockets: dir.path().to_owned(), specs: Vec::new() });
    assert!(plugins.all("VolumeDriver").await.is_empty());
    let waiting = tokio::spawn(async move { plugins.get("late", "VolumeDriver").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::fs::remove_file(&path).unwrap();
    let _asked = serve(UnixListener::bind(&path).unwrap(), answers);
    assert!(waiting.await.unwrap().is_ok());
}
