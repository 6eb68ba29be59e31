"""The root of the broker's exceptions, and the whole tree drawn; each lives in the package that raises it.

BrokerError
├── SettingsError                settings                   settings that cannot be used
├── StartError                   __main__                   the broker cannot start
├── CommandError                 commands.identity          the command cannot do it
├── CannotListen                 server.server              an address that is taken
├── MalformedFrame               protocol.errors            bytes that are no request
├── CloseConnection              apis.api                   this connection must end
├── Rejected                     apis.api                   one item of a request is rejected
├── UnreadableRecord             coordinators.records       a record that cannot be read
├── UnreadableBatch              groups.record_batch        a batch of an internal topic that is damaged
├── LogError                     log.errors                 what the log rejects; the core raises these too
│   ├── InvalidBatch             log.errors                 a batch broke a rule of the format or of the topic
│   ├── OffsetOutOfRange         log.errors                 below the log start or above the end
│   ├── TopicExists              log.errors                 a topic of that name is there already
│   ├── DamagedTopic             log.errors                 the file of a topic cannot be read
│   ├── TopicBusy                log.errors                 a topic that another request is changing
│   ├── UnknownTopic             log.errors                 there is no topic of that name
│   ├── InvalidTopicName         log.errors                 the name breaks Kafka's rules
│   ├── InvalidPartitions        log.errors                 a partition count that cannot be
│   └── InvalidConfig            log.errors                 an unknown topic config, or its value
├── AuthFault                    auth.assembly              settings or files that nobody could log in with
├── AuthenticationFailed         auth.mechanism             a login that is rejected
├── TooManyAcls                  auth.acl.store             more ACLs than are kept
├── IdentityFileError            auth.iam.identity_file     a file of identities that cannot be used
├── NotPresigned                 auth.iam.sigv4             a token that is no presigned URL
├── PolicyError                  auth.iam.policies.errors   a policy that cannot be used
├── TooManyUsers                auth.scram.users           more of users than is kept
├── UnusableSecret               auth.scram.secrets_manager a secret that holds no user
├── IssuingFault                 auth.tls.issuing           a certificate that cannot be issued
├── NoRuleApplies                auth.tls.principal_rules   a certificate's name that no rule maps
├── NotLetIn                     auth.tls.contexts          a verified certificate whose owner may not log in
└── TlsFault                     auth.tls.contexts          files that cannot be used for TLS
"""


class BrokerError(Exception):
    """Anything that the broker raises on purpose; the text is one sentence that names the fix."""
