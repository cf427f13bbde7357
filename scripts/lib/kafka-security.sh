# shellcheck shell=bash
# What `scripts/kafka start --secure` adds: certificates, listeners with TLS and SASL, users, an authorizer. Sourced by
# scripts/kafka; uses its variables STATE, DATA, VERSION and BROKERS, and its functions.

# NAME:PROTOCOL, after the plain one. The MTLS ones want a client's certificate, the sessions of REAUTH end after two
# seconds (KIP-368), EXPIRED and WRONG_HOST show certificates that a client must refuse.
readonly SECURE_LISTENERS=(SSL:SSL SASL_PLAINTEXT:SASL_PLAINTEXT SASL_SSL:SASL_SSL MTLS:SSL SASL_MTLS:SASL_SSL
  REAUTH:SASL_PLAINTEXT EXPIRED:SSL WRONG_HOST:SSL)

# `alice` may do everything, `bob` nothing; both by PLAIN, SCRAM and OAUTHBEARER. The client's certificate is `alice` too.
readonly USERS=(alice bob)
readonly KEY_PASSWORD=client-secret # of every private key's encrypted copy
password_of() { echo "$1-secret"; } # USER

# ---- Certificates ----------------------------------------------------------------------------------------------------
# $DATA/secrets: ca.pem, other-ca.pem (which signed nothing), and for the client and each kind of server NAME.pem,
# NAME-key.pem and NAME-key-encrypted.pem; NAME-store.pem is what a broker reads.

issue() { # NAME SUBJECT SAN FROM TO: $SECRETS/NAME.pem and NAME-key.pem, signed by the CA
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$SECRETS/$1-key.pem" \
    -out "$SECRETS/$1.csr" 2>/dev/null
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}" \
    >"$SECRETS/$1.ext"
  openssl ca -batch -notext -config "$SECRETS/ca.conf" -name ca -extfile "$SECRETS/$1.ext" -startdate "$4" -enddate "$5" \
    -in "$SECRETS/$1.csr" -out "$SECRETS/$1.pem" 2>"$SECRETS/log" || die "openssl ca: $(<"$SECRETS/log")"
}

authority() { # NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -days 30 \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$SECRETS/$1-key.pem" -out "$SECRETS/$1.pem" 2>/dev/null
}

encrypt() { # NAME CIPHER...: $SECRETS/NAME-key-encrypted.pem
  openssl pkcs8 -topk8 "${@:2}" -in "$SECRETS/$1-key.pem" -passout "pass:$KEY_PASSWORD" \
    -out "$SECRETS/$1-key-encrypted.pem" 2>"$SECRETS/log" || die "openssl pkcs8: $(<"$SECRETS/log")"
}

make_certificates() {
  local name san past now later
  need openssl "install OpenSSL (Debian: openssl), which makes the certificates of a secure cluster"
  SECRETS=$DATA/secrets
  mkdir -p "$SECRETS/new"
  authority ca
  authority other-ca
  cat >"$SECRETS/ca.conf" <<CONF
[ca]
database = $SECRETS/index
new_certs_dir = $SECRETS/new
certificate = $SECRETS/ca.pem
private_key = $SECRETS/ca-key.pem
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
CONF
  : >"$SECRETS/index"
  past=$(date -u -d '-2 days' +%Y%m%d%H%M%SZ) now=$(date -u -d '-1 hour' +%Y%m%d%H%M%SZ)
  later=$(date -u -d '+20 days' +%Y%m%d%H%M%SZ) san=IP:127.0.0.1,DNS:localhost
  issue server kafka $san "$now" "$later"
  issue expired kafka $san "$past" "$(date -u -d '-1 day' +%Y%m%d%H%M%SZ)"
  issue wrong-host kafka DNS:another.example.org "$now" "$later"
  issue client alice '' "$now" "$later"
  encrypt client -v2 aes-256-cbc
  for name in server expired wrong-host; do encrypt "$name" -v1 PBE-SHA1-3DES; done # 2.8 cannot read newer ciphers
  for name in server expired wrong-host; do # a key store of Kafka: the key, which 2.8 wants encrypted, and its chain
    cat "$SECRETS/$name-key-encrypted.pem" "$SECRETS/$name.pem" "$SECRETS/ca.pem" >"$SECRETS/$name-store.pem"
  done
  rm -rf "$SECRETS"/{*.csr,*.ext,index*,new,log,ca.conf}
}

# ---- Configuration ---------------------------------------------------------------------------------------------------

tls_settings() { # LISTENER STORE CLIENT_AUTH
  cat <<PROPERTIES
listener.name.$1.ssl.keystore.type=PEM
listener.name.$1.ssl.keystore.location=$DATA/secrets/$2-store.pem
listener.name.$1.ssl.key.password=$KEY_PASSWORD
listener.name.$1.ssl.truststore.type=PEM
listener.name.$1.ssl.truststore.location=$DATA/secrets/ca.pem
listener.name.$1.ssl.client.auth=$3
PROPERTIES
}

sasl_settings() { # LISTENER
  local module=org.apache.kafka.common.security user users=''
  for user in "${USERS[@]}"; do users+=" user_$user=\"$(password_of "$user")\""; done
  cat <<PROPERTIES
listener.name.$1.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.$1.plain.sasl.jaas.config=$module.plain.PlainLoginModule required$users;
listener.name.$1.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.$1.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.$1.oauthbearer.sasl.jaas.config=$module.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
PROPERTIES
}

secure_listener_settings() { # LISTENER
  local mechanism
  case $1 in
    SSL) tls_settings ssl server none ;;
    SASL_PLAINTEXT) sasl_settings sasl_plaintext ;;
    SASL_SSL) tls_settings sasl_ssl server none && sasl_settings sasl_ssl ;;
    MTLS) tls_settings mtls server required ;;
    SASL_MTLS) tls_settings sasl_mtls server required && sasl_settings sasl_mtls ;;
    EXPIRED) tls_settings expired expired none ;;
    WRONG_HOST) tls_settings wrong_host wrong-host none ;;
    REAUTH)
      sasl_settings reauth
      for mechanism in plain scram-sha-256 scram-sha-512 oauthbearer; do
        echo "listener.name.reauth.$mechanism.connections.max.reauth.ms=2000"
      done
      ;;
  esac
}

# Who comes without a name, over the plain listener or TLS, may do everything.
authorizer_settings() {
  local class=org.apache.kafka.metadata.authorizer.StandardAuthorizer
  if with_zookeeper; then class=kafka.security.authorizer.AclAuthorizer; fi
  echo "authorizer.class.name=$class"
  echo "super.users=User:ANONYMOUS;User:alice;User:CN=alice"
}

# The arguments of StorageTool that make the users of SCRAM, into SCRAM_ARGUMENTS.
scram_arguments() {
  local user mechanism
  SCRAM_ARGUMENTS=()
  for user in "${USERS[@]}"; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      SCRAM_ARGUMENTS+=(--add-scram "$mechanism=[name=$user,password=$(password_of "$user")]")
    done
  done
}

# Brokers that do not keep users in a KRaft log get them once they run.
make_scram_users() {
  local user
  for user in "${USERS[@]}"; do
    "$SELF" tool configs --bootstrap-server "127.0.0.1:$(port_of 1 "$FIRST_LISTENER")" --alter --entity-type users \
      --entity-name "$user" --add-config \
      "SCRAM-SHA-256=[password=$(password_of "$user")],SCRAM-SHA-512=[password=$(password_of "$user")]" >/dev/null
  done
}
