//! What an API's answer means. A model is gone only by the API's own word: anybody on the way to it may answer 404 as well,
//! and would have everything deleted that was ever pushed.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::http::LONGEST;
use crate::sync::source::FetchError;
use crate::sync::work::Data;

/// An answer, with its body if that matters.
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<&'a str>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: &'a [u8],
}

/// Whether the body of such an answer matters.
pub(super) fn matters(status: StatusCode) -> bool {
    status.is_success() || is_missing(status)
}

fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

impl Answer<'_> {
    /// The model, or nothing if it is gone, or why this tells neither. `member`: what the model is in.
    pub(super) fn judge(&self, member: Option<&str>) -> Result<Option<Data>, FetchError> {
        let message = match self.status {
            status if status.is_success() => return self.model(member).map(Some),
            status if is_missing(status) => match self.why_not_gone() {
                None => return Ok(None),
                Some(why) => format!(
                    "the source answered {status}, but {why}. So this may be the answer of something before the source, \
                     and the model is not taken for gone"
                ),
            },
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("the source refused the tenant's access token: it answered {status}")
            }
            status if status.is_redirection() => format!(
                "the source answered {status}, and redirects are not followed: the tenant's endpoint has to be where \
                 the source is itself"
            ),
            status => format!("the source answered {status}"),
        };
        let retry_after = self.retry_after.map(|wait| wait.min(LONGEST));
        Err(FetchError { message, retry_after })
    }

    /// Takes the model out of what is around it. It stays as it was written.
    fn model(&self, member: Option<&str>) -> Result<Data, FetchError> {
        let wrong =
            |why: &str| FetchError::from(format!("the source answered {}, but {why}", self.status));
        let whole: &RawValue =
            serde_json::from_slice(self.body).map_err(|_| wrong("not with JSON"))?;
        let Some(around) = members(whole) else {
            return Err(wrong("with JSON that is not an object"));
        };
        match member.and_then(|member| Some((member, *around.get(member)?))) {
            Some((_, model)) if members(model).is_some() => Ok(model.to_owned().into()),
            Some((member, _)) => Err(wrong(&format!("{member} in it is not an object"))),
            None => Ok(whole.to_owned().into()),
        }
    }

    /// Why a 404 or 410 is not the source's own word.
    fn why_not_gone(&self) -> Option<&'static str> {
        if !self.content_type.is_some_and(is_json) {
            Some("its content type is not JSON")
        } else if self.body.trim_ascii().is_empty() {
            Some("without a body")
        } else if serde_json::from_slice::<IgnoredAny>(self.body).is_err() {
            Some("its body is not JSON")
        } else {
            None
        }
    }
}

/// The members of an object, unread; nothing if it is something else.
pub(super) fn members(json: &RawValue) -> Option<HashMap<String, &RawValue>> {
    serde_json::from_str(json.get()).ok()
}

/// Whether a content type is `application/json`, or one that is written in it (RFC 6839, 3.1).
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence
        .strip_prefix("application/")
        .is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        status: u16,
        content_type: Option<&str>,
        body: &str,
    ) -> Result<Option<String>, FetchError> {
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            content_type,
            retry_after: None,
            body: body.as_bytes(),
        };
        answer.judge(Some("application")).map(|data| data.map(|data| data.get().to_owned()))
    }

    fn fault(status: u16, content_type: Option<&str>, body: &str) -> String {
        judge(status, content_type, body).expect_err("it tells nothing").message
    }

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    #[test]
    fn a_model_is_taken_out_as_it_was_written() {
        let model = |body| judge(200, JSON, body).expect("it is a model").expect("it is there");
        assert_eq!(
            model(r#" {"application": {"id":  1.0, "é": "\u00e9"}} "#),
            r#"{"id":  1.0, "é": "\u00e9"}"#
        );
        assert_eq!(model("{}"), "{}");
        assert_eq!(model(r#" {"id": 1} "#), r#"{"id": 1}"#);
        assert_eq!(model(r#"{"\u0061pplication": {}, "x": 1}"#), "{}");
        assert_eq!(judge(201, None, "{}"), Ok(Some("{}".to_owned())));
    }

    #[test]
    fn what_is_not_a_model_is_a_fault() {
        for body in [
            "",
            " ",
            "<html>",
            "{",
            "[]",
            "5",
            "null",
            "{\"application\": null}",
            "{\"application\": []}",
            "{} {}",
        ] {
            let told = fault(200, JSON, body);
            assert!(told.starts_with("the source answered 200 OK, but"), "{body}: {told}");
        }
        fault(204, None, "");
    }

    #[test]
    fn a_model_is_gone_only_by_the_sources_own_word() {
        for (status, content_type, body) in [
            (404, JSON, "{\"status\": \"Not found\"}"),
            (410, JSON, "null"),
            (404, Some("Application/Problem+JSON"), "{}"),
        ] {
            assert_eq!(judge(status, content_type, body), Ok(None), "{status} {body}");
        }
        for (content_type, body, why) in [
            (Some("text/html"), "<html>404</html>", "content type"),
            (Some("text/html"), "{}", "content type"),
            (Some("application/jsonp"), "{}", "content type"),
            (None, "{}", "content type"),
            (JSON, "", "without a body"),
            (JSON, " \n", "without a body"),
            (JSON, "<html>", "body is not JSON"),
            (JSON, "{\"status\": \"Not fo", "body is not JSON"),
        ] {
            for status in [404, 410] {
                let told = fault(status, content_type, body);
                assert!(told.contains(why) && told.contains("not taken for gone"), "{told}");
            }
        }
    }

    #[test]
    fn anything_else_is_a_fault_that_repeats_nothing() {
        for status in [300, 302, 304, 400, 401, 403, 407, 422, 429, 500, 502, 503, 504, 599] {
            let told = fault(status, JSON, "{\"secret\": 1}");
            assert!(told.contains(&status.to_string()) && !told.contains("secret"), "{told}");
        }
        for status in [401, 403] {
            assert!(fault(status, JSON, "{}").contains("refused the tenant's access token"));
        }
        assert!(fault(302, None, "").contains("redirects are not followed"));
    }

    #[test]
    fn nobody_puts_us_off_for_more_than_an_hour() {
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let answer = Answer { status, content_type: None, retry_after, body: b"" };
            answer.judge(None).expect_err("it is none").retry_after.map(|wait| wait.as_secs())
        };
        assert_eq!((asked(7), asked(u64::MAX)), (Some(7), Some(3600)));
    }
}
