// The users of the accounts API.
// @ts-check
import { html, useState } from "./vendor/htm-preact.js";
import { get, patch, post, remove } from "./api.js";
import { instant } from "./format.js";
import { Icon } from "./icons.js";
import { Confirm, Dialog, Empty, Failed, Field, PageHead, Secret, Skeleton, toast, useLoaded, valueOf } from "./ui.js";

export function Users() {
  const users = useLoaded((signal) => get("/users", { limit: 1000 }, { signal }), []);
  const [isMaking, setIsMaking] = useState(false);
  const [asked, setAsked] = useState(/** @type {any} */ (null));
  const [reset, setReset] = useState(/** @type {any} */ (null));
  const change = async (/** @type {any} */ user, /** @type {any} */ to, /** @type {string} */ told) => {
    try {
      await patch(`/users/${encodeURIComponent(user.id)}`, to);
      toast(told);
      users.reload();
    } catch (error) {
      toast(/** @type {Error} */ (error).message, "bad");
    }
  };
  const list = users.value?.users ?? [];
  return html`
    <${PageHead} title="Users" text="People who log in through the accounts API: /users, /login, /profile."><button class="button primary" onClick=${() => setIsMaking(true)}><${Icon} name="plus" />New user</button><//>
    <section class="card" aria-label="Users">
      ${users.error ? html`<div class="card-body"><${Failed} error=${users.error} retry=${users.reload} /></div>` : !users.value ? html`<${Skeleton} />` : list.length === 0 ? html`<${Empty} icon="users" title="No users yet"><p>People register with <code>POST /users</code>, or you make them here.</p><button class="button" onClick=${() => setIsMaking(true)}><${Icon} name="plus" />New user</button><//>` : html`<div class="table-wrap" tabindex="0" role="region" aria-label="All users"><table class="table"><thead><tr><th scope="col">Email</th><th scope="col">Name</th><th scope="col">Role</th><th scope="col">State</th><th scope="col">Made</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
        <tbody>${list.map((/** @type {any} */ user) => html`<tr key=${user.id}><td class="break">${user.email}</td><td class="break">${user.name ?? html`<span class="muted">none</span>`}</td>
          <td><select class="select" aria-label=${`Role of ${user.email}`} value=${user.role} onChange=${(/** @type {any} */ event) => change(user, { role: valueOf(event) }, "Role changed.")}>${["user", "admin"].map((role) => html`<option value=${role} selected=${role === user.role}>${role}</option>`)}</select></td>
          <td><span class=${`badge ${user.disabled ? "bad" : "good"}`}>${user.disabled ? "disabled" : "active"}</span></td><td class="small muted nowrap">${instant(user.createdAt)}</td>
          <td class="num nowrap"><button class="button slim" aria-label=${`${user.disabled ? "Enable" : "Disable"} ${user.email}`} onClick=${() => change(user, { disabled: !user.disabled }, user.disabled ? "Enabled." : "Disabled; all sessions ended.")}>${user.disabled ? "Enable" : "Disable"}</button> <button class="button slim" aria-label=${`Reset the password of ${user.email}`} onClick=${() => post(`/users/${encodeURIComponent(user.id)}/reset`).then(setReset, (error) => toast(error.message, "bad"))}>Reset</button> <button class="button slim danger" aria-label=${`Remove ${user.email}`} onClick=${() => setAsked(user)}>Remove</button></td></tr>`)}</tbody></table></div>`}
    </section>
    ${isMaking && html`<${NewUser} close=${(/** @type {boolean} */ isMade) => { setIsMaking(false); if (isMade) users.reload(); }} />`}
    ${reset && html`<${Dialog} title="Copy the reset token now" close=${() => setReset(null)} foot=${html`<button class="button primary" onClick=${() => setReset(null)}>I have copied it</button>`}><p>It sets a new password once, with <code>POST /login/reset</code>, until ${instant(reset.expiresAt)}.</p><${Secret} text=${reset.token} label="Reset token" /><//>`}
    ${asked && html`<${Confirm} title="Remove this user?" verb="Remove" close=${() => setAsked(null)} act=${async () => { await remove(`/users/${encodeURIComponent(asked.id)}`); toast("Removed."); users.reload(); }} text=${html`<p><strong>${asked.email}</strong> and all sessions are gone. Orders stay.</p>`} />`}`;
}

/** @param {{ close: (isMade: boolean) => void }} props */
function NewUser({ close }) {
  const [user, setUser] = useState({ email: "", name: "", password: "", role: "user" });
  const [error, setError] = useState(/** @type {any} */ (null));
  const change = (/** @type {string} */ member) => (/** @type {any} */ event) => setUser({ ...user, [member]: valueOf(event) });
  const make = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(null);
    try {
      await post("/users", { ...user, name: user.name || null });
      toast("The user was made.");
      close(true);
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<${Dialog} title="New user" close=${() => close(false)} foot=${html`<button class="button" onClick=${() => close(false)}>Cancel</button><button class="button primary" form="new-user">Make the user</button>`}>
    <form id="new-user" class="stack" onSubmit=${make}>
      <${Field} label="Email">${(/** @type {string} */ id) => html`<input id=${id} class="input" type="email" required value=${user.email} onInput=${change("email")} />`}<//>
      <${Field} label="Name" hint="May stay empty.">${(/** @type {string} */ id) => html`<input id=${id} class="input" value=${user.name} onInput=${change("name")} />`}<//>
      <${Field} label="Password">${(/** @type {string} */ id) => html`<input id=${id} class="input" type="password" autocomplete="new-password" required value=${user.password} onInput=${change("password")} />`}<//>
      <${Field} label="Role">${(/** @type {string} */ id) => html`<select id=${id} class="select" value=${user.role} onChange=${change("role")}><option value="user">user</option><option value="admin">admin</option></select>`}<//>
      ${error && html`<${Failed} error=${error} />`}
    </form><//>`;
}
