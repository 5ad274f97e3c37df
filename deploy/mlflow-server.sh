#!/usr/bin/env bash
# MLflow for a team, with MLflow's own users and passwords. Arguments go to `mlflow server`; see docs/tracking.md.
#
# MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD   the administrator's, from the first start on
# MLFLOW_SERVER_FOLDER                                 users, artifacts and runs [default: mlflow-server]
# MLFLOW_BACKEND_STORE_URI                             another database for the runs
set -euo pipefail

refuse() {
  echo "error: $1" >&2
  exit 2
}

user=${MLFLOW_TRACKING_USERNAME:-} password=${MLFLOW_TRACKING_PASSWORD:-}
make="to make one: export MLFLOW_TRACKING_PASSWORD=\$(python3 -c 'import secrets; print(secrets.token_urlsafe())')"
[[ -n $user && $user != *:* ]] ||
  refuse "MLFLOW_TRACKING_USERNAME must be the administrator's name, without a colon: export MLFLOW_TRACKING_USERNAME=admin"
[[ -n $password ]] || refuse "MLFLOW_TRACKING_PASSWORD must be the administrator's password; $make"
[[ $password != password1234 ]] || refuse "MLFLOW_TRACKING_PASSWORD must not be MLflow's default, which everybody knows; $make"
((${#password} >= 12)) || refuse "MLFLOW_TRACKING_PASSWORD must have at least 12 characters, which MLflow demands; $make"

umask 077
mkdir -p "${MLFLOW_SERVER_FOLDER:=mlflow-server}"
cd "$MLFLOW_SERVER_FOLDER"
# Everybody may add to every experiment, which is a study, whoever began it; to delete takes the right to manage. A worker
# remembers for a minute that a password was right, since checking one is slow by design.
cat >auth.ini <<INI
[mlflow]
default_permission = EDIT
database_uri = sqlite:///users.db
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
INI
unset MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD
# No secret is in a file or on a command line.
export MLFLOW_AUTH_CONFIG_PATH=$PWD/auth.ini MLFLOW_AUTH_ADMIN_USERNAME=$user MLFLOW_AUTH_ADMIN_PASSWORD=$password
MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')
export MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_STORE_URI:-sqlite:///mlflow.db}
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # six processes that a search has no use for
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
echo "MLflow keeps its users, artifacts and runs in $PWD; $user makes users at /signup; Ctrl-C ends it"
exec mlflow server --app-name basic-auth --workers 2 --artifacts-destination "$PWD/artifacts" \
  --uvicorn-opts "--log-level warning" "$@"
