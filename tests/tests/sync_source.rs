//! APIs that models are fetched from: what is asked for, what counts as a model, and that it is gone only by the API's own
//! word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::reach::Reach;
use integratedb_sidecar::secret::Secret;
use integratedb_sidecar::sync::source::classes::{ClassError, Classes, define, load, read};
use integratedb_sidecar::sync::source::http::HttpSource;
use integratedb_sidecar::sync::source::{Derived, FetchError, Fetched, Source};
use integratedb_sidecar::sync::{Fetch, ModelId, Notified, SyncSettings, TenantId};
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{Answered, Cluster, Sidecar, SourceApi};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TOKEN: &str = "the-token";
/// What nobody repeats.
const BODY: &str = "confidential";
const APPLICATION: &str = "/admin/api/applications/find.json?application_id=3";
const PROXY: &str = "/admin/api/services/5/proxy.json";

fn source(endpoint: &str, classes: Classes) -> Result<HttpSource> {
    reaching(vec!["127.0.0.0/8".parse()?], endpoint, classes)
}

fn reaching(allow_networks: Vec<IpNet>, endpoint: &str, classes: Classes) -> Result<HttpSource> {
    let token = Secret::new(TOKEN.to_owned());
    let settings = SyncSettings { allow_networks, ..SyncSettings::default() };
    let client = Reach::from(&settings).client(Duration::from_secs(3), 4);
    let client = client.map_err(anyhow::Error::msg)?;
    HttpSource::new(endpoint, &token, Arc::new(classes), client).map_err(anyhow::Error::msg)
}

/// What an update would ask for after this notification.
fn fetch_of(classes: &Classes, body: &Value) -> Result<Fetch> {
    let Notified { tenant, model, parent, data } =
        classes.read(TenantId(16), body.as_object().context("no object")?)?;
    let data = data.unwrap_or_default();
    Ok(Fetch { id: ModelId(1), tenant, model, parent, data, last_data: None, attempts: 1 })
}

async fn fetch(api: &SourceApi, body: &Value) -> Result<Result<Fetched, FetchError>> {
    let classes = Classes::with([]);
    let fetch = fetch_of(&classes, body)?;
    Ok(source(&api.url(), classes)?.fetch(&fetch).await)
}

fn application() -> Value {
    json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": 16})
}

/// Why it can't be fetched, which has no secret in it.
async fn fault(api: &SourceApi) -> Result<FetchError> {
    let error = fetch(api, &application()).await?.err().context("it was fetched")?;
    ensure!(!error.message.contains(TOKEN) && !error.message.contains(BODY), "{error}");
    Ok(error)
}

#[tokio::test]
async fn a_model_is_asked_for_as_zync_does() -> Result<()> {
    let api = SourceApi::start().await?;
    api.put(APPLICATION, json!({"application": {"id": 3, "client_id": "abc"}}));
    let fetched = fetch(&api, &application()).await??;
    assert_eq!(fetched.data.context("it is there")?.get(), r#"{"client_id":"abc","id":3}"#);
    let asked = api.asked();
    assert_eq!(asked.len(), 1);
    // `:the-token`
    assert_eq!(asked[0].header("authorization"), "Basic OnRoZS10b2tlbg==");
    assert_eq!(asked[0].header("accept"), "application/json");

    // Its client is to be fetched, and that is another request.
    let [client] = fetched.notified.as_slice() else { anyhow::bail!("{:?}", fetched.notified) };
    let (model, parent) = (client.model.clone(), client.parent.clone());
    let client_fetch = Fetch {
        id: ModelId(2),
        tenant: TenantId(16),
        model,
        parent,
        data: Map::new(),
        last_data: None,
        attempts: 1,
    };
    let source = source(&api.url(), Classes::with([]))?;
    assert!(source.fetch(&client_fetch).await?.data.is_none(), "the API does not have it");
    let last = api.asked().pop().context("it was asked")?.path;
    assert_eq!(last, "/admin/api/applications/find.json?app_id=abc&service_id=5");
    Ok(())
}

#[tokio::test]
async fn a_proxy_says_where_clients_go() -> Result<()> {
    let api = SourceApi::start().await?;
    let body = json!({"type": "Proxy", "id": 7, "service_id": 5});
    let endpoint = "https://id:secret@sso.example/realm";
    api.put(
        PROXY,
        json!({"proxy": {"oidc_issuer_endpoint": endpoint, "oidc_issuer_type": "rest"}}),
    );
    match fetch(&api, &body).await??.integration.context("it says so")? {
        Derived::Push { kind, endpoint: to, model } => {
            assert_eq!((kind.as_str(), to.expose_secret().as_str()), ("rest", endpoint));
            assert_eq!((model.class.as_str(), model.key.as_str()), ("Service", "5"));
        }
        nowhere @ Derived::Nowhere { .. } => anyhow::bail!("{nowhere:?}"),
    }
    api.remove(PROXY);
    let gone = fetch(&api, &body).await??;
    assert!(gone.data.is_none() && matches!(gone.integration, Some(Derived::Nowhere { .. })));
    Ok(())
}

#[tokio::test]
async fn what_no_api_has_is_never_gone() -> Result<()> {
    let api = SourceApi::start().await?;
    let data = async |body: Value| -> Result<String> {
        Ok(fetch(&api, &body).await??.data.context("it is gone")?.get().to_owned())
    };
    assert_eq!(data(json!({"type": "Service", "id": "5"})).await?, r#"{"id":5}"#);
    let limit = json!({"type": "UsageLimit", "id": 9, "metric_id": 8, "plan_id": 7});
    assert_eq!(data(limit).await?, r#"{"id":9,"metric_id":8,"plan_id":7}"#);
    assert!(api.asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_404_of_somebody_else_deletes_nothing() -> Result<()> {
    let api = SourceApi::start().await?;
    assert!(fetch(&api, &application()).await??.data.is_none(), "its own word counts");
    let of_others = [
        Answered::balancer(),
        Answered::of(404, "application/json", String::new()),
        Answered::of(404, "application/json", BODY.to_owned()),
        Answered::of(410, "text/plain", "{}".to_owned()),
    ];
    for answered in of_others {
        api.answer(move |_| Some(answered.clone()));
        let error = fault(&api).await?;
        assert!(error.message.contains("not taken for gone"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_404_that_breaks_off_is_nobodys_word() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await?;
        let _ = connection.read(&mut [0; 4096]).await?;
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}";
        connection.write_all(answer.as_bytes()).await
    });
    let classes = Classes::with([]);
    let fetch = fetch_of(&classes, &application())?;
    let error = source(&endpoint, classes)?.fetch(&fetch).await.err().context("it is gone")?;
    assert!(error.message.contains("can't be asked"), "{error}");
    server.await??;
    Ok(())
}

#[tokio::test]
async fn a_source_that_fails_says_why_and_until_when() -> Result<()> {
    let api = SourceApi::start().await?;
    let answers = |status: u16, headers: &'static [(&str, &str)]| {
        api.answer(move |_| {
            let answered = Answered::of(status, "text/plain", BODY.to_owned());
            Some(
                headers
                    .iter()
                    .fold(answered, |answered, (name, value)| answered.with(name, *value)),
            )
        });
    };
    answers(401, &[]);
    assert!(fault(&api).await?.message.contains("refused the tenant's access token"));
    answers(429, &[("retry-after", "7")]);
    assert_eq!(fault(&api).await?.retry_after, Some(Duration::from_secs(7)));
    answers(503, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]);
    assert_eq!(fault(&api).await?.retry_after, Some(Duration::ZERO));
    answers(503, &[("retry-after", "18446744073709551615")]);
    assert_eq!(fault(&api).await?.retry_after, Some(Duration::from_secs(3600)));
    answers(500, &[]);
    let error = fault(&api).await?;
    assert_eq!(error.message, "the source answered 500 Internal Server Error");
    assert_eq!(error.retry_after, None);
    answers(200, &[]);
    assert!(fault(&api).await?.message.contains("not with JSON"));

    let before = api.asked().len();
    answers(302, &[("location", "/elsewhere")]);
    assert!(fault(&api).await?.message.contains("redirects are not followed"));
    assert_eq!(api.asked().len(), before + 1);

    api.answer(|_| Some(Answered::json(200, &json!({})).after(Duration::from_secs(20))));
    let began = Instant::now();
    let error = fault(&api).await?;
    assert!(
        error.message.contains("in time") && began.elapsed() < Duration::from_secs(15),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() -> Result<()> {
    let api = SourceApi::start().await?;
    let classes = Classes::with([]);
    let fetch = fetch_of(&classes, &application())?;
    let source = source(&api.url(), classes)?.with_most(100);
    api.put(APPLICATION, json!({"application": {"text": "x".repeat(60)}}));
    assert!(source.fetch(&fetch).await?.data.is_some());
    api.put(APPLICATION, json!({"application": {"text": "x".repeat(100)}}));
    let error = source.fetch(&fetch).await.err().context("it was taken")?;
    assert!(error.message.contains("more than 100 bytes"), "{error}");
    // A 404 is no exception.
    api.answer(|_| Some(Answered::json(404, &json!("x".repeat(100)))));
    let error = source.fetch(&fetch).await.err().context("it was taken")?;
    assert!(error.message.contains("more than 100 bytes"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_in_the_sidecars_own_network_is_not_asked() -> Result<()> {
    let api = SourceApi::start().await?;
    let classes = Classes::with([]);
    let fetch = fetch_of(&classes, &application())?;
    for endpoint in [api.url(), api.url().replace("127.0.0.1", "localhost")] {
        let source = reaching(vec!["10.0.0.0/8".parse()?], &endpoint, classes.clone())?;
        let error = source.fetch(&fetch).await.err().context("it was reached")?;
        assert!(error.message.contains("sync.allow_networks"), "{error}");
    }
    assert!(api.asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn connections_are_used_again() -> Result<()> {
    let api = SourceApi::start().await?;
    let classes = Classes::with([]);
    let fetch = fetch_of(&classes, &application())?;
    let source = source(&api.url(), classes)?;
    let answers = [
        Answered::json(200, &json!({})),
        Answered::json(404, &json!({})),
        Answered::balancer(),
        Answered::of(500, "text/plain", "x".repeat(10_000)),
        Answered::of(302, "text/plain", "there".to_owned()),
    ];
    for answered in answers {
        api.answer(move |_| Some(answered.clone()));
        let _ = source.fetch(&fetch).await;
    }
    let asked = api.asked();
    assert!(asked.len() == 5 && asked.iter().all(|one| one.from == asked[0].from), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn classes_of_ones_own_are_asked_for_below_the_endpoint() -> Result<()> {
    let api = SourceApi::start().await?;
    let issue = json!({
        "key": ["project_id", "iid"],
        "parent": {"class": "project", "field": "project_id"},
        "path": "/projects/{project_id}/issues/{iid}",
        "query": {"q": "{iid}"},
        "member": "issue"
    });
    let issue = define("issue", &issue).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let classes = Classes::with([issue]);
    let body = json!({"type": "issue", "project_id": "a/b", "iid": 1});
    let fetch = fetch_of(&classes, &body)?;
    let source = source(&format!("{}/api/v4/", api.url()), classes)?;
    api.put("/api/v4/projects/a%2Fb/issues/1?q=1", json!({"issue": {"title": "x"}}));
    let fetched = source.fetch(&fetch).await?;
    assert_eq!(fetched.data.context("it is there")?.get(), r#"{"title":"x"}"#);
    assert!(fetched.notified.is_empty() && fetched.integration.is_none());
    Ok(())
}

#[test]
fn the_guides_class_and_its_notification_are_right() -> Result<()> {
    let guide = include_str!("../../docs/sync/sources.md");
    let mut examples =
        guide.split("```json\n").skip(1).map(|after| after.split("```").next().unwrap_or_default());
    let body: Value = serde_json::from_str(examples.next().context("no definition")?)?;
    let class =
        define("issue", &body["class"]).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    let notification = serde_json::from_str(examples.next().context("no notification")?)?;
    let fetch = fetch_of(&Classes::with([class]), &notification)?;
    assert_eq!(fetch.model.key, r#"["7","12"]"#);
    // And the table has every class, with its fields.
    for name in Classes::with([]).names() {
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.with_context(|| format!("{name} is not in the guide"))?;
        let empty = json!({"type": name});
        if let Err(ClassError::Fields(fields)) =
            read(TenantId(1), empty.as_object().context("no object")?)
        {
            for (field, _) in fields {
                ensure!(row.contains(&format!("`{field}`")), "{name}: {field} is not in the guide");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_tenants_own_classes_are_beside_zyncs_and_before_them() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let _sidecar = Sidecar::start(&database.url()).await?;
    let client = database.connect().await?;
    let stored = r#"
        INSERT INTO integratedb.sync_tenant (id, endpoint, sealed) VALUES (16, 'https://a.example', ''), (17, 'x', '');
        INSERT INTO integratedb.sync_class (tenant_id, name, definition) VALUES
            (16, 'issue', '{"key": "id", "path": "/issues/{id}"}'),
            (16, 'Metric', '{"key": "id", "path": "/metrics/{id}"}'),
            (16, 'broken', '{"key": "id", "path": "//elsewhere/{id}"}'),
            (17, 'of_another', '{"key": "id"}')"#;
    client.batch_execute(stored).await?;
    let classes = load(&client, TenantId(16)).await?;
    let own: Vec<&str> =
        classes.names().filter(|name| Classes::with([]).get(name).is_none()).collect();
    assert_eq!(own, ["issue"]);
    let metric = json!({"type": "Metric", "id": "m"});
    assert_eq!(fetch_of(&classes, &metric)?.parent, None, "it is their own, which has none");
    let api = SourceApi::start().await?;
    api.put("/metrics/m", json!({"name": "hits"}));
    let fetch = fetch_of(&classes, &metric)?;
    let fetched = source(&api.url(), classes)?.fetch(&fetch).await?;
    assert_eq!(fetched.data.context("it is there")?.get(), r#"{"name":"hits"}"#);
    Ok(())
}

/// Any JSON, often with names that mean something.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9]{0,20}".prop_map(Value::from),
        ".*".prop_map(Value::from),
        "/[a-z{}./%?]*".prop_map(Value::from),
        prop::sample::select(vec!["Application", "Client", "Service", "UsageLimit", "{id}", "id"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let names = [
        "type",
        "id",
        "service_id",
        "client_id",
        "metric_id",
        "plan_id",
        "tenant_id",
        "key",
        "parent",
        "class",
        "field",
        "fields",
        "path",
        "query",
        "member",
    ];
    let name =
        prop_oneof![4 => prop::sample::select(names.to_vec()).prop_map(str::to_owned), 1 => ".*"];
    prop::collection::hash_map(name, value, 0..8).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn any_body_is_a_notification_or_an_error(
        mut body in object(json_value()),
        class in prop::sample::select(vec!["Application", "Client", "Proxy", "Service", "Provider", "UsageLimit"]),
    ) {
        if !body.contains_key("type") {
            body.insert("type".to_owned(), class.into());
        }
        match read(TenantId(1), &body) {
            Ok(notified) => {
                prop_assert!(!notified.model.key.is_empty() && !notified.model.key.contains('\0'));
                prop_assert!(notified.model.key.len() < 2048);
                // What was read is read again the same.
                prop_assert_eq!(read(TenantId(1), &body), Ok(notified));
            }
            Err(ClassError::Unknown(known)) => prop_assert!(!known.is_empty()),
            Err(ClassError::Fields(fields)) => prop_assert!(!fields.is_empty()),
        }
    }

    #[test]
    fn any_definition_is_a_class_or_an_error(definition in json_value(), body in object(json_value())) {
        let mistakes = match define("own", &definition) {
            Ok(class) => {
                let mut body = body;
                body.insert("type".to_owned(), "own".into());
                let _ = Classes::with([class]).read(TenantId(1), &body);
                return Ok(());
            }
            Err(mistakes) => mistakes,
        };
        prop_assert!(!mistakes.is_empty());
        for (message, pointer) in mistakes {
            prop_assert!(!message.is_empty());
            prop_assert!(pointer.is_empty() || pointer.starts_with('/'), "{}", pointer);
        }
    }

}

proptest! {
    // Each has a server of its own.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_key_leads_out_of_the_endpoint(
        segments in prop::collection::vec(
            prop::sample::select(vec!["a", "{id}", ".{id}", "{id}.", "{id}{id}", "%2e{id}", "{id}.json", "{id}@"]), 1..4,
        ),
        id in prop_oneof![
            prop::sample::select(vec![".", "..", "/", "//", "\\", "/..", "%2e", "?", "#", ":", "@", "a b", ";"])
                .prop_map(str::to_owned),
            "[./%@:?#\\\\]{1,4}",
            "\\PC{1,8}",
        ],
    ) {
        let path = format!("/{}", segments.join("/"));
        let Ok(class) = define("own", &json!({"key": "id", "path": path, "query": {"q": "{id}"}})) else {
            return Err(TestCaseError::fail(path));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async {
            let api = SourceApi::start().await?;
            let classes = Classes::with([class]);
            let fetch = fetch_of(&classes, &json!({"type": "own", "id": id}))?;
            // What it can't ask for is an error, and asks for nothing.
            let _ = source(&format!("{}/below", api.url()), classes)?.fetch(&fetch).await;
            anyhow::Ok(api.asked())
        });
        for asked in asked.map_err(|error| TestCaseError::fail(error.to_string()))? {
            let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
            prop_assert!(path.starts_with("/below/") && query.starts_with("q="), "{}", asked.path);
            // As many as those of the definition: the value makes none, and takes none away.
            prop_assert_eq!(path.split('/').count(), segments.len() + 2, "{}", path);
        }
    }
}
