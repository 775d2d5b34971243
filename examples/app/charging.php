<?php

// A small charging back end for ws2api: everything but how requests come in and answers go out. index.php (php -S, PHP-FPM)
// and ../roadrunner/worker.php see to that.

declare(strict_types=1);

final class Charging
{
    public function __construct(
        private readonly string $ingress = 'http://127.0.0.1:4001',
        private readonly string $token = '',
    ) {
    }

    public static function fromEnvironment(): self
    {
        return new self(getenv('WS2API_INGRESS') ?: 'http://127.0.0.1:4001', getenv('WS2API_TOKEN') ?: '');
    }

    /**
     * @param array<string, string> $headers names in lower case
     * @return array{int, array<string, string>, string} status, headers, body
     */
    public function handle(string $path, array $headers, string $body): array
    {
        // Split first, decode then; rawurldecode leaves a plus a plus.
        $parts = array_map(rawurldecode(...), explode('/', ltrim($path, '/')));
        [$kind, $name, $client, $messageId] = $parts + ['', '', '', ''];
        $payload = json_decode($body, true);

        switch ($kind) {
            case 'connect':
                return self::connect((string) $payload, $headers);

            case 'call':
                return self::call($name, is_array($payload) ? $payload : []);

            case 'result':
            case 'error':
                // The outcome of a push; it may come more than once with the same key. X-Origin: not the client's word.
                $key = $headers['idempotency-key'] ?? '';
                $origin = isset($headers['x-origin']) ? 'no answer' : 'answer';
                error_log("$kind of $name $messageId for $client ($origin, key $key): $body");
                return [204, [], ''];

            case 'disconnect':
                error_log("{$payload['clientId']} has left, connection {$payload['connectionId']}, {$payload['code']}");
                return [204, [], ''];

            // Our own API, for our own app: POST /start/CP1 {"tag":"ABC"} starts charging there.
            case 'start':
                return $this->start($name, (string) ($payload['tag'] ?? 'UNKNOWN'));

            default:
                return [204, [], '']; // /send and /resulterror of OCPP 2.1
        }
    }

    /** May this client come in? @param array<string, string> $headers */
    private static function connect(string $client, array $headers): array
    {
        // A password, if we want one: HTTP Basic, whose user is the ClientId (ws2api has seen to that).
        $password = getenv('CHARGER_PASSWORD') ?: null;
        $known = 'Basic ' . base64_encode("$client:$password");
        if ($password !== null && !hash_equals($known, $headers['authorization'] ?? '')) {
            return [401, ['WWW-Authenticate' => 'Basic realm="charging"'], ''];
        }
        // A certificate, if it has one: the load balancer says which (config/haproxy.cfg).
        $certificate = $headers['x-ssl-client-cn'] ?? $client;
        return $certificate === $client ? self::json(200, 'ok') : [403, [], ''];
    }

    /** A client's Call; the body of the answer is the payload of its CallResult. */
    private static function call(string $action, array $payload): array
    {
        $now = gmdate('Y-m-d\TH:i:s\Z');
        return match ($action) {
            'BootNotification' => self::json(200, ['currentTime' => $now, 'interval' => 300, 'status' => 'Accepted']),
            'Heartbeat' => self::json(200, ['currentTime' => $now]),
            'StatusNotification', 'MeterValues', 'StopTransaction', 'TransactionEvent' => self::json(200, []),
            'StartTransaction' => self::json(200, [
                'transactionId' => random_int(1, 2 ** 31 - 1),
                'idTagInfo' => ['status' => 'Accepted'],
            ]),
            'Authorize' => match (true) {
                isset($payload['idTag']) => self::json(200, ['idTagInfo' => ['status' => 'Accepted']]), // OCPP 1.6
                isset($payload['idToken']) => self::json(200, ['idTokenInfo' => ['status' => 'Accepted']]), // OCPP 2
                // This becomes a CallError with these words.
                default => self::json(400, [
                    'code' => 'OccurrenceConstraintViolation',
                    'description' => 'whom to authorize is missing',
                    'details' => (object) ['field' => 'idTag'],
                ]),
            },
            default => [404, [], ''], // the client gets NotImplemented
        };
    }

    /** Starts charging at a client, in its version of OCPP, and gives back what it says. */
    private function start(string $client, string $tag): array
    {
        [$status, $found] = $this->ask('GET', '/clients/' . rawurlencode($client));
        if ($status !== 200) {
            return self::json($status, $found);
        }
        [$status, $answer] = match ($found['subprotocol'] ?? null) {
            'ocpp2.0.1', 'ocpp2.1' => $this->push($client, 'RequestStartTransaction', [
                'idToken' => ['idToken' => $tag, 'type' => 'Central'],
                'remoteStartId' => random_int(1, 2 ** 31 - 1),
            ]),
            default => $this->push($client, 'RemoteStartTransaction', ['idTag' => $tag]),
        };
        return self::json($status, $answer);
    }

    /**
     * Pushes a Call to a client, and waits for the outcome: 200 and the client's payload, 422 and its CallError, 504 or 502:
     * no answer. It may be refused: 404, 409, 429, 503. Without `Prefer`: 202, and the outcome comes to /result or /error.
     *
     * @return array{int, mixed} status and body
     */
    private function push(string $client, string $action, array $payload): array
    {
        $path = implode('/', array_map(rawurlencode(...), [$action, $client, bin2hex(random_bytes(16))]));
        return $this->ask('POST', "/call/$path", json_encode((object) $payload, JSON_THROW_ON_ERROR), ['Prefer: wait=35']);
    }

    /** @param list<string> $headers */
    private function ask(string $method, string $path, string $body = '', array $headers = []): array
    {
        if ($this->token !== '') {
            $headers[] = "Authorization: Bearer $this->token";
        }
        $context = stream_context_create(['http' => [
            'method' => $method,
            'header' => ['Content-Type: application/json', 'Connection: close', ...$headers],
            'content' => $body,
            'ignore_errors' => true,
            'protocol_version' => 1.1,
            'timeout' => 40,
        ]]);
        $answer = @file_get_contents($this->ingress . $path, false, $context);
        if ($answer === false) {
            return [503, ['error' => 'ws2api is not there']];
        }
        preg_match('/ (\d{3})/', $http_response_header[0], $match);
        return [(int) $match[1], json_decode($answer, true)];
    }

    private static function json(int $status, mixed $body): array
    {
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;
        return [$status, ['Content-Type' => 'application/json'], json_encode($body, $flags)];
    }
}
