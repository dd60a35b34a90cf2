//! The settings of a namespace: name, who may do what, password and hint.

use axum::body::Body;
use axum::response::Response;
use kvasir_auth::password::PASSWORD_BYTES_MAX;
use kvasir_kv::Mutation;
use serde::{Deserialize, Serialize};

use super::super::gate::{self, Right};
use super::super::layout::{self, AccessType, Device};
use super::super::{error, wire};
use super::{Call, Opened};
use crate::error::ApiError;

/// Longest name and longest hint, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// What is told about a namespace.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksInfo)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Info<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    status: Option<&'static str>,
    uuid: &'a str,
    name: Option<&'a str>,
    #[schema(value_type = String)]
    access_type: AccessType,
    has_password: bool,
    /// Only for who may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    read_only_link: Option<&'a str>,
}

impl<'a> Info<'a> {
    fn of(call: &Call<'a>, device: &'a Device) -> Info<'a> {
        Info {
            status: None,
            uuid: call.namespace,
            name: device.name.as_deref(),
            access_type: device.access_type(),
            has_password: device.password.is_some(),
            read_only_link: None,
        }
    }
}

/// `GET /:namespace/_info`.
#[utoipa::path(
    get, path = "/classworks/{namespace}/_info", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    responses(
        (status = 200, description = "the settings", body = Info<'static>),
    )
)]
pub(super) async fn info(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.open(Right::Read).await?;
    Ok(wire::json(&Info::of(call, &opened.device)))
}

/// `GET /:namespace/_check`: the same with a status, open without the password.
#[utoipa::path(
    get, path = "/classworks/{namespace}/_check", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    responses(
        (status = 200, description = "the settings", body = Info<'static>),
    )
)]
pub(super) async fn check(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.resolve().await?;
    Ok(wire::json(&Info {
        status: Some("success"),
        ..Info::of(call, &opened.device)
    }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = ClassworksNewInfo)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct NewInfo {
    name: Option<String>,
    access_type: Option<String>,
    read_only_link: Option<bool>,
}

/// `PUT /:namespace/_info`. What is missing or empty stays as it is. The app repeats this request until
/// it sees its name, so the next `GET` has to show it.
#[utoipa::path(
    put, path = "/classworks/{namespace}/_info", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    request_body(content = NewInfo, content_type = "application/json"),
    responses(
        (status = 200, description = "the settings as they are now", body = serde_json::Value),
    )
)]
pub(super) async fn set_info(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;
    let new: NewInfo = call.settings(body).await?;
    let name = new.name.filter(|name| !name.is_empty());
    check_text("name", name.as_deref())?;
    let access_type = match new.access_type.as_deref() {
        None | Some("") => None,
        Some("PUBLIC") => Some(AccessType::Public),
        Some("PROTECTED") => Some(AccessType::Protected),
        Some("PRIVATE") => Some(AccessType::Private),
        Some(_) => {
            return Err(error::bad(
                "无效的 accessType，可用值: PUBLIC, PROTECTED, PRIVATE",
            ));
        }
    };
    if new.read_only_link == Some(true) && !call.app.settings.read_only_links {
        return Err(error::bad("此服务器未启用只读链接"));
    }

    let link = uuid::Uuid::new_v4().to_string();
    let change = call.app.devices.change(&opened.owner, |device, write| {
        if let Some(name) = &name {
            device.name = Some(name.clone());
        }
        device.set_access_type = access_type.unwrap_or(device.set_access_type);
        if let Some(wanted) = new.read_only_link {
            if let Some(old) = device.read_only_link.take() {
                let old = layout::device_key(&old);
                write.mutations.push(Mutation::delete(old));
            }
            if wanted {
                let leads_here = Device {
                    links_to: Some(opened.owner.clone()),
                    ..Device::default()
                };
                let key = layout::device_key(&link);
                write
                    .mutations
                    .push(Mutation::set(key, leads_here.to_value()));
                device.read_only_link = Some(link.clone());
            }
        }
        Ok::<_, ApiError>(())
    });
    let device = change.await?;

    Ok(wire::json(&Info {
        read_only_link: device.read_only_link.as_deref(),
        ..Info::of(call, &device)
    }))
}

fn check_text(what: &str, text: Option<&str>) -> Result<(), ApiError> {
    match text.is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
        true => Err(error::bad(format!(
            "{what} 过长（最多 {TEXT_BYTES_MAX} 字节）"
        ))),
        false => Ok(()),
    }
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksHint)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Hint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    message: Option<&'static str>,
    password_hint: Option<&'a str>,
}

/// `GET /:namespace/_hint`: open to everybody, since it is for who forgot the password.
#[utoipa::path(
    get, path = "/classworks/{namespace}/_hint", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    responses(
        (status = 200, description = "the hint", body = Hint<'static>),
    )
)]
pub(super) async fn hint(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.resolve().await?;
    let hint = opened.device.password_hint.as_deref();
    Ok(wire::json(&Hint {
        message: None,
        password_hint: hint.filter(|_| !opened.is_link),
    }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = ClassworksNewHint)]
pub(in super::super) struct NewHint {
    hint: Option<String>,
}

/// `PUT /:namespace/_hint`: sets the hint, or removes it with `null`.
#[utoipa::path(
    put, path = "/classworks/{namespace}/_hint", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    request_body(content = NewHint, content_type = "application/json"),
    responses(
        (status = 200, description = "the hint as it is now", body = Hint<'static>),
    )
)]
pub(super) async fn set_hint(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;
    let NewHint { hint } = call.settings(body).await?;
    check_text("hint", hint.as_deref())?;

    let change = call.app.devices.change(&opened.owner, |device, _| {
        device.password_hint.clone_from(&hint);
        Ok::<_, ApiError>(())
    });
    let device = change.await?;

    Ok(wire::json(&Hint {
        message: Some("密码提示已更新"),
        password_hint: device.password_hint.as_deref(),
    }))
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ClassworksDone)]
pub(in super::super) struct Done {
    message: &'static str,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = ClassworksNewPassword)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct NewPassword {
    password: Option<serde_json::Value>,
    old_password: Option<String>,
}

/// `POST /:namespace/_password`: sets or changes the password. Needs the right to write and, if there
/// is a password, the old one in the body as well.
#[utoipa::path(
    post, path = "/classworks/{namespace}/_password", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    request_body(content = NewPassword, content_type = "application/json"),
    responses(
        (status = 200, description = "set", body = Done),
        (status = 401, description = "the old password is wrong"),
    )
)]
pub(super) async fn set_password(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let opened = call.open(Right::Write).await?;
    let new: NewPassword = call.settings(body).await?;
    let password = match new.password {
        Some(serde_json::Value::String(text)) if (1..=PASSWORD_BYTES_MAX).contains(&text.len()) => {
            text
        }
        _ => return Err(error::bad("新密码格式无效")),
    };
    let old = new.old_password.unwrap_or_default();
    check_old(call, &opened, &old).await?;

    let hash = call.app.gate.passwords.hash(&password).await;
    let hash = hash.map_err(gate::busy)?;
    // A namespace that nobody may read stays so; contract and original know only the first password.
    let access_type = match opened.device.access_type() {
        AccessType::Private => AccessType::Private,
        AccessType::Public | AccessType::Protected => AccessType::Protected,
    };
    replace_password(call, &opened, Some(hash), access_type).await?;
    Ok(wire::json(&Done {
        message: "密码已成功修改",
    }))
}

async fn check_old(call: &Call<'_>, opened: &Opened, old: &str) -> Result<(), ApiError> {
    let gate = &call.app.gate;
    let checked = gate.check(call.info, call.namespace, &opened.device, old);
    match checked.await? {
        Some(_) => Ok(()),
        None => Err(error::wrong_password()),
    }
}

/// `DELETE /:namespace/_password`: needs the present one in the header.
#[utoipa::path(
    delete, path = "/classworks/{namespace}/_password", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    responses(
        (status = 200, description = "removed", body = Done),
        (status = 401, description = "the password is wrong"),
    )
)]
pub(super) async fn remove_password(call: &Call<'_>) -> Result<Response, ApiError> {
    let opened = call.resolve().await?;
    if opened.is_link {
        return Err(error::read_only_link());
    }
    let (gate, device) = (&call.app.gate, &opened.device);
    gate.demand(call.info, call.headers, call.query, call.namespace, device)
        .await?;

    replace_password(call, &opened, None, AccessType::Public).await?;
    Ok(wire::json(&Done {
        message: "密码已成功移除",
    }))
}

/// Puts another password in the place of the one that was checked. If somebody else was quicker, the
/// checked one is no longer the password.
async fn replace_password(
    call: &Call<'_>,
    opened: &Opened,
    hash: Option<String>,
    access_type: AccessType,
) -> Result<(), ApiError> {
    let change = call.app.devices.change(&opened.owner, |device, _| {
        if device.password != opened.device.password {
            return Err(error::wrong_password());
        }
        device.password.clone_from(&hash);
        device.set_access_type = access_type;
        Ok(())
    });
    change.await.map(|_| ())
}

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = ClassworksShownPassword)]
pub(in super::super) struct ShownPassword {
    password: Option<String>,
}

/// `POST /:namespace/_checkpassword`: whether the password in the body is the right one.
#[utoipa::path(
    post, path = "/classworks/{namespace}/_checkpassword", tag = "classworks",
    params(
        ("namespace" = String, Path, description = "the namespace, usually a UUID"),
    ),
    request_body(content = ShownPassword, content_type = "application/json"),
    responses(
        (status = 200, description = "it is the password", body = Info<'static>),
        (status = 401, description = "it is not"),
    )
)]
pub(super) async fn check_password(call: &Call<'_>, body: Body) -> Result<Response, ApiError> {
    let opened = call.resolve().await?;
    if opened.is_link {
        return Err(error::read_only_link());
    }
    let ShownPassword { password } = call.settings(body).await?;
    let password = password.unwrap_or_default();
    let gate = &call.app.gate;
    let checked = gate.check(call.info, call.namespace, &opened.device, &password);
    let renewal = checked.await?.ok_or_else(error::wrong_password)?;
    call.renew(&opened, renewal).await;

    Ok(wire::json(&Info {
        status: Some("success"),
        ..Info::of(call, &opened.device)
    }))
}
