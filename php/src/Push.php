<?php

declare(strict_types=1);

namespace Ws2Api;

/**
 * Pushes Calls to clients.
 *
 * Payloads are anything that becomes an object of JSON, or {@see Raw}; `[]` is `{}`. MessageIds are made where none is given;
 * with one of your own, a push that may not have arrived can be repeated without a second run while the first is open (409).
 */
final class Push
{
    public function __construct(private readonly Ingress $ingress)
    {
    }

    public static function fromEnvironment(): self
    {
        return new self(Ingress::fromEnvironment());
    }

    /**
     * Hands a push over, and does not wait: the outcome comes to `#[OnResult]` or `#[OnError]`.
     *
     * @param string $connectionId the connection that is meant, if not whichever there is
     * @throws PushFailed {@see PushRefused} or {@see IngressUnreachable}
     */
    public function send(
        string $clientId,
        string $action,
        mixed $payload = [],
        string $messageId = '',
        string $connectionId = '',
    ): Accepted {
        $response = $this->post($clientId, $action, $payload, $messageId ?: self::newId(), $connectionId, null);
        if ($response->status !== 202) {
            throw self::failed($response);
        }
        $body = Json::members($response->body);
        return new Accepted($body['messageId'] ?? '', $body['connectionId'] ?? '', ($body['status'] ?? '') === 'queued');
    }

    /**
     * Pushes, and waits for the client's CallResult. It holds this worker meanwhile.
     *
     * @param int $wait whole seconds, 1 to 3600; longer than `push_timeout` (30 s), or an early end does not mean that it did not run
     * @throws PushFailed any of its kinds
     */
    public function call(
        string $clientId,
        string $action,
        mixed $payload = [],
        int $wait = 35,
        string $messageId = '',
        string $connectionId = '',
    ): Answer {
        if ($wait < 1 || $wait > 3600) {
            throw new \InvalidArgumentException('wait is 1 to 3600 seconds');
        }
        $messageId = $messageId ?: self::newId();
        $response = $this->post($clientId, $action, $payload, $messageId, $connectionId, $wait);
        return $response->status === 200 ? new Answer($messageId, $response->body) : throw self::failed($response);
    }

    private function post(
        string $clientId,
        string $action,
        mixed $payload,
        string $messageId,
        string $connectionId,
        ?int $wait,
    ): Response {
        $headers = [
            ...($wait === null ? [] : ['Prefer' => "wait=$wait"]),
            ...($connectionId === '' ? [] : ['X-Connection-Id' => $connectionId]),
        ];
        $path = Ingress::path('call', $action, $clientId, $messageId);
        return $this->ingress->request('POST', $path, Json::payload($payload), $headers, $wait ?? 0);
    }

    private static function failed(Response $response): PushFailed
    {
        $body = Json::members($response->body);
        return match (true) {
            $response->status === 422 => ClientError::from($body),
            isset($body['code']) => NoAnswer::from($body),
            // Whoever is between says only that it got no answer.
            $response->status === 502, $response->status === 504,
            $response->status < 400 => new IngressUnreachable("ws2api answered $response->status", true),
            default => PushRefused::from($response),
        };
    }

    private static function newId(): string
    {
        return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex(random_bytes(16)), 4));
    }
}
