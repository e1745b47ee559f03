//! The generic HTTP target.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::sync::Named;
use integratedb_sidecar::sync::target::{Comparison, check};
use serde_json::{Value, json};
use support::{Peer, Says};

use crate::{gone, refusal, target, target_within, upsert};

const HOSTILE: &str = "../x?y#z\r\nX-Injected: 1/%2e%2e/\u{e9}\"}";

fn settings(peer: &Peer) -> Value {
    let url = format!("http://{}/orders/{{{{ key }}}}", peer.address());
    json!({
        "upsert": {"url": url},
        "delete": {"url": url},
        "read": {"url": url},
        "secret_headers": {"Authorization": "Bearer hush"},
    })
}

#[tokio::test]
async fn the_data_goes_as_it_is_by_default() -> Result<()> {
    let peer = Peer::start(|_| 200.into()).await?;
    let http = target("http", &settings(&peer))?;
    let exact = r#"{"id": 1, "n": 12345678901234567890.123456789012345678,  "s": "\u00e9"}"#;
    let mut push = upsert("public.orders", "1", 5, &Value::Null);
    push.data = Some(serde_json::value::RawValue::from_string(exact.to_owned())?.into());
    http.push(&push).await?;
    http.push(&gone("public.orders", "1", 6, None)).await?;
    let asked = peer.asked();
    ensure!(peer.lines() == ["PUT /orders/1", "DELETE /orders/1"], "{:?}", peer.lines());
    ensure!(asked[0].body == exact && asked[1].body.is_empty(), "{asked:?}");
    for (asked, entry) in asked.iter().zip(["5", "6"]) {
        ensure!(asked.header("content-type") == "application/json");
        ensure!(asked.header("authorization") == "Bearer hush");
        ensure!(asked.header("integratedb-entry") == entry);
        ensure!(asked.header("idempotency-key") == format!("7-3-{entry}"));
    }
    Ok(())
}

#[tokio::test]
async fn templates_have_the_model_and_values_stay_in_their_place() -> Result<()> {
    let peer = Peer::start(|_| 201.into()).await?;
    let base = format!("http://{}", peer.address());
    let http = target(
        "http",
        &json!({
            "upsert": {
                "method": "post",
                "url": format!("{base}/{{{{ class }}}}/{{{{ key[0] }}}}/{{{{ key[1] | urlencode }}}}?of={{{{ parent.key }}}}"),
                "headers": {"X-Entry": "n{{ entry }}"},
                "body": r#"{"name": {{ data.name | tojson }}, "tags": [{% for tag in data.tags %}{{ tag | upper }},{% endfor %}null], "note": {{ data.note | default("none") }}}"#,
            },
            "delete": {
                "method": "POST",
                "url": format!("{base}/gone"),
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
                "body": "name={{ data.name }}&x=1",
            },
        }),
    )?;
    let key = serde_json::to_string(&["a", HOSTILE])?;
    let data = json!({"name": HOSTILE, "tags": ["a", "\"b"]});
    let mut push = upsert("orders", &key, 8, &data);
    push.parent = Some(Named { class: "customers".to_owned(), key: "1&2".to_owned() });
    http.push(&push).await?;
    http.push(&gone("orders", &key, 9, Some(&data))).await?;
    // It never had data, so it has never been there.
    http.push(&gone("orders", &key, 9, None)).await?;
    let asked = peer.asked();
    ensure!(asked.len() == 2, "{asked:?}");
    let encoded = "..%2Fx%3Fy%23z%0D%0AX-Injected%3A%201%2F%252e%252e%2F%C3%A9%22%7D";
    ensure!(asked[0].line == format!("POST /orders/a/{encoded}?of=1%262"), "{}", asked[0].line);
    ensure!(asked[0].header("x-entry") == "n8");
    ensure!(
        asked[0].json() == json!({"name": HOSTILE, "tags": ["A", "\"B", null], "note": "none"}),
        "{}",
        asked[0].body
    );
    ensure!(
        asked[1].line == "POST /gone" && asked[1].body == format!("name={encoded}&x=1"),
        "{:?}",
        asked[1]
    );
    ensure!(asked.iter().all(|asked| asked.header("x-injected").is_empty()));
    Ok(())
}

#[tokio::test]
async fn what_can_t_be_filled_is_not_sent() -> Result<()> {
    let peer = Peer::start(|_| 200.into()).await?;
    let with = |upsert: Value| {
        let mut settings = settings(&peer);
        let url = settings["upsert"]["url"].clone();
        settings["upsert"] = upsert;
        if settings["upsert"]["url"].is_null() {
            settings["upsert"]["url"] = url;
        }
        target("http", &settings)
    };
    let secret = json!({"name": "secret", "list": [1]});
    let host = peer.address();
    for (request, key, told) in [
        (
            json!({"body": "{{ data.nam }}"}),
            "1",
            "the body: line 1: it uses a member that the model does not have",
        ),
        (json!({"body": "{\"a\": \"{{ data.name }}\"}"}), "1", "the body is not JSON"),
        (json!({"url": format!("http://{host}/{{{{ data.list }}}}")}), "1", "the url: line 1"),
        (json!({"url": format!("http://{host}/a/{{{{ key }}}}/b")}), "..", "another folder"),
        (json!({"headers": {"X-Key": "{{ key }}"}}), "a\nb", "the header x-key"),
        (json!({"body": "{% for a in data.name %}{{ a }}{% endfor %}"}), "1", "the body"),
    ] {
        let text = refusal(&*with(request)?, &upsert("orders", key, 1, &secret)).await?;
        ensure!(text.contains(told) && !text.contains("secret"), "{text}, but expected {told}");
    }
    ensure!(peer.asked().is_empty(), "{:?}", peer.lines());
    Ok(())
}

#[tokio::test]
async fn a_huge_body_goes_and_one_beyond_all_bounds_does_not() -> Result<()> {
    let peer = Peer::start(|_| 200.into()).await?;
    let mut settings = settings(&peer);
    settings["upsert"]["body"] = "{\"a\": {{ data.a }}, \"b\": {{ data.a }}}".into();
    let http = target("http", &settings)?;
    // The peer takes at most two megabytes.
    http.push(&upsert("orders", "1", 1, &json!({"a": "x".repeat(900_000)}))).await?;
    ensure!(peer.asked()[0].json()["b"].as_str().is_some_and(|text| text.len() == 900_000));
    let told =
        refusal(&*http, &upsert("orders", "1", 2, &json!({"a": "x".repeat(5_000_000)}))).await?;
    ensure!(told.contains("more than 8388608 bytes"), "{told}");
    ensure!(peer.asked().len() == 1);
    Ok(())
}

#[test]
fn a_host_from_data_is_refused_when_it_is_configured() {
    let url = |url: &str| json!({"upsert": {"url": url}, "delete": {"url": "https://a.example/"}});
    for wrong in [
        "https://{{ data.host }}/",
        "https://a.example:{{ key }}/",
        "{{ key }}",
        "https://a.example@{{ key }}",
    ] {
        let mistakes = check("http", &url(wrong)).expect_err(wrong);
        assert_eq!(mistakes[0].1, "/upsert/url", "{mistakes:?}");
    }
    assert!(check("http", &url("https://a.example/{{ key }}")).is_ok());
}

#[tokio::test]
async fn answers_decide() -> Result<()> {
    let peer = Peer::start(|asked| {
        let wanted = asked.line.rsplit('/').next().unwrap_or_default();
        match wanted.parse().unwrap_or(200) {
            301 => Says { headers: vec![("location", "/orders/200".to_owned())], ..301.into() },
            429 => Says {
                headers: vec![("retry-after", "9".to_owned())],
                body: "a secret".to_owned(),
                ..429.into()
            },
            0 => Says { after: Duration::from_secs(60), ..200.into() },
            status => status.into(),
        }
    })
    .await?;
    let http = target("http", &settings(&peer))?;
    let upserts = async |status: &str| http.push(&upsert("o", status, 1, &json!({}))).await;
    let deletes = async |status: &str| http.push(&gone("o", status, 1, None)).await;
    for status in ["200", "201", "204"] {
        upserts(status).await?;
        deletes(status).await?;
    }
    for status in ["404", "410"] {
        ensure!(upserts(status).await.is_err());
        deletes(status).await?;
    }
    for status in ["301", "400", "409", "500"] {
        let told = upserts(status).await.expect_err("it is refused").message;
        ensure!(told.contains(&format!("it answered {status}")), "{told}");
        ensure!(deletes(status).await.is_err());
    }
    ensure!(
        peer.lines().iter().filter(|line| line.ends_with("/200")).count() == 2,
        "a redirect was followed"
    );
    let error = upserts("429").await.expect_err("it is busy");
    ensure!(
        error.retry_after == Some(Duration::from_secs(9)) && !error.message.contains("secret"),
        "{error:?}"
    );

    let quick = target_within("http", &settings(&peer), Duration::from_millis(200))?;
    let told = refusal(&*quick, &upsert("o", "0", 1, &json!({}))).await?;
    ensure!(told == "the upsert: it did not answer in time: operation timed out", "{told}");
    let nobody = target("http", &settings(&peer))?;
    drop(peer);
    let told = refusal(&*nobody, &upsert("o", "200", 1, &json!({}))).await?;
    ensure!(told.starts_with("the upsert: no connection"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_comparison_reads_what_is_there() -> Result<()> {
    let held =
        json!({"data": {"order": {"id": 1, "n": 2.0, "l": [1, {"a": 1, "b": 2}], "more": true}}});
    let peer = Peer::start(move |asked| {
        if asked.line.ends_with("/1") { (200, held.clone()).into() } else { 404.into() }
    })
    .await?;
    let mut settings = settings(&peer);
    settings["read"]["member"] = "/data/order".into();
    let http = target("http", &settings)?;
    let compared = async |push| http.compare(&push).await.context("compared");
    let same = json!({"id": 1, "n": 2, "l": [1, {"a": 1}]});
    ensure!(compared(upsert("o", "1", 1, &same)).await? == Comparison::Same);
    let other = json!({"id": 1, "n": 3, "l": [{"a": 1}, 1], "x": null});
    let names = ["l", "n", "x"].map(str::to_owned).to_vec();
    let differs = compared(upsert("o", "1", 1, &other)).await?;
    ensure!(differs == Comparison::Update(names), "{differs:?}");
    ensure!(compared(upsert("o", "2", 1, &same)).await? == Comparison::Create);
    ensure!(compared(gone("o", "1", 1, None)).await? == Comparison::Delete);
    ensure!(compared(gone("o", "2", 1, None)).await? == Comparison::Same);
    ensure!(peer.lines().iter().all(|line| line.starts_with("GET ")));

    settings["read"]["member"] = "nothing".into();
    let unknown = target("http", &settings)?.compare(&upsert("o", "1", 1, &same)).await?;
    ensure!(matches!(unknown, Comparison::Unknown(_)), "{unknown:?}");
    settings["read"] = Value::Null;
    let unknown = target("http", &settings)?.compare(&upsert("o", "1", 1, &same)).await?;
    ensure!(matches!(&unknown, Comparison::Unknown(why) if why.contains("read")), "{unknown:?}");
    Ok(())
}
