<?php

// A backend for ws2api in plain PHP. Run it with: php -S 127.0.0.1:5000 backend.php

declare(strict_types=1);

const INGRESS = 'http://127.0.0.1:4001';

/** Sends an answer to ws2api, and ends the request. */
function answer(int $status, mixed $body = null): never
{
    http_response_code($status);
    if ($body !== null) {
        header('Content-Type: application/json');
        echo json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION);
    }
    exit;
}

/** Ends a Call with a CallError. */
function call_error(string $code, string $description, array $details = []): never
{
    answer(400, ['code' => $code, 'description' => $description, 'details' => (object) $details]);
}

/**
 * Pushes a Call to a client. With $wait the outcome is returned: 200 and the client's payload, 422 and its CallError, 504
 * or 502; without, 202, and the outcome comes as POST /result or /error. Either way it may be refused: 404, 409, 429, 503.
 *
 * @return array{int, mixed} status and body
 */
function push(string $client, string $action, array|object $payload, int $wait = 0): array
{
    $path = implode('/', array_map(rawurlencode(...), [$action, $client, bin2hex(random_bytes(16))]));
    $headers = ['Content-Type: application/json'];
    if ($wait > 0) {
        $headers[] = "Prefer: wait=$wait";
    }
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => $headers,
        'content' => json_encode((object) $payload, JSON_THROW_ON_ERROR),
        'ignore_errors' => true,
        'protocol_version' => 1.1,
        'timeout' => $wait + 10,
    ]]);
    $body = @file_get_contents(INGRESS . "/call/$path", false, $context);
    if ($body === false) {
        return [503, ['error' => 'ws2api is not there']];
    }
    preg_match('/ (\d{3})/', $http_response_header[0], $match);
    return [(int) $match[1], json_decode($body, true)];
}

// Split first, decode then; rawurldecode leaves a plus a plus.
$parts = array_map(rawurldecode(...), explode('/', ltrim($_SERVER['REQUEST_URI'], '/')));
[$kind, $action, $client, $messageId] = $parts + ['', '', '', ''];
$body = file_get_contents('php://input');
$payload = json_decode($body, true);
$connection = $_SERVER['HTTP_X_CONNECTION_ID'] ?? '';

switch ($kind) {
    case 'connect':
        // $payload is the ClientId; the client's password, if any, is in the Authorization header.
        if (!str_starts_with($payload, 'CP')) {
            answer(403);
        }
        answer(200, 'ok');

    case 'call':
        match ($action) {
            'BootNotification' => answer(200, [
                'currentTime' => gmdate('Y-m-d\TH:i:s\Z'),
                'interval' => 300,
                'status' => 'Accepted',
            ]),
            'Heartbeat' => answer(200, ['currentTime' => gmdate('Y-m-d\TH:i:s\Z')]),
            'StatusNotification' => answer(200, []),
            'Authorize' => isset($payload['idTag'])
                ? answer(200, ['idTagInfo' => ['status' => 'Accepted']])
                : call_error('OccurrenceConstraintViolation', 'idTag is missing', ['field' => 'idTag']),
            default => answer(404), // the client gets NotImplemented
        };

    case 'result':
    case 'error':
        // The outcome of a push; it may come more than once with the same key. Not the client's word: X-Origin.
        $key = $_SERVER['HTTP_IDEMPOTENCY_KEY'] ?? '';
        $ours = ($_SERVER['HTTP_X_ORIGIN'] ?? '') === 'ws2api';
        error_log("$kind of $action $messageId from $client ($key" . ($ours ? ', no answer' : '') . "): $body");
        answer(204);

    case 'disconnect':
        error_log("{$payload['clientId']} has left, connection {$payload['connectionId']}, {$payload['code']}");
        answer(204);

    default:
        answer(204); // /send and /resulterror of OCPP 2.1
}
