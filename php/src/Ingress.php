<?php

declare(strict_types=1);

namespace Ws2Api;

/** ws2api's ingress: who is connected, answers to deferred Calls, and what {@see Push} needs. */
final class Ingress
{
    /** Seconds that an answer may take on top of what was asked for. */
    private const PATIENCE = 5;

    private readonly Transport $transport;

    /** @param string $token that of `ingress_token_file`; empty: none */
    public function __construct(
        string $url = 'http://127.0.0.1:4001',
        private readonly string $token = '',
        ?Transport $transport = null,
    ) {
        $this->transport = $transport ?? new Connection($url);
    }

    /** `WS2API_INGRESS` and `WS2API_TOKEN`, where they are set. */
    public static function fromEnvironment(): self
    {
        return new self(getenv('WS2API_INGRESS') ?: 'http://127.0.0.1:4001', getenv('WS2API_TOKEN') ?: '');
    }

    /**
     * One client: `connectionId`, `since`, `address`, `subprotocol`, `pending`; null: it is not connected.
     *
     * @return array<string, mixed>|null
     * @throws PushFailed
     */
    public function client(string $clientId): ?array
    {
        $response = $this->request('GET', self::path('clients', $clientId));
        return match ($response->status) {
            200 => Json::members($response->body),
            404 => null,
            default => throw PushRefused::from($response),
        };
    }

    /**
     * All clients, as {@see self::client()} has them. Who stays connected meanwhile is there once.
     *
     * @return \Generator<int, array<string, mixed>>
     * @throws PushFailed
     */
    public function clients(int $limit = 1000): \Generator
    {
        $after = '';
        do {
            $response = $this->request('GET', "/clients?limit=$limit&after=$after");
            if ($response->status !== 200) {
                throw PushRefused::from($response);
            }
            $page = Json::members($response->body);
            yield from array_values($page['clients'] ?? []);
            $after = $page['next'] ?? null;
        } while ($after !== null);
    }

    /**
     * Closes a client's connection; false: it was not there.
     *
     * @param int $code 1000, 1001, 1008, 1011, 1012, 1013, or 3000 to 4999
     * @throws PushFailed
     */
    public function close(string $clientId, int $code = 1000, string $reason = '', string $connectionId = ''): bool
    {
        $path = self::path('clients', $clientId) . "?code=$code&reason=" . rawurlencode($reason);
        $headers = $connectionId === '' ? [] : ['X-Connection-Id' => $connectionId];
        $response = $this->request('DELETE', $path, '', $headers);
        return match ($response->status) {
            204 => true,
            404 => false,
            default => throw PushRefused::from($response),
        };
    }

    /** Answers a deferred Call. @throws PushFailed when it is no longer open (404), or answered already (409) */
    public function answer(Ticket $ticket, mixed $payload = []): void
    {
        $this->finish('result', $ticket, Json::payload($payload));
    }

    /** Answers a deferred Call with a CallError. @throws PushFailed as {@see self::answer()} */
    public function fail(Ticket $ticket, CallError $error, ?string $subprotocol = null): void
    {
        $this->finish('error', $ticket, $error->body($subprotocol));
    }

    /**
     * @param array<string, string> $headers
     * @throws IngressUnreachable
     */
    public function request(string $method, string $path, string $body = '', array $headers = [], int $wait = 0): Response
    {
        $headers['Content-Type'] = 'application/json';
        if ($this->token !== '') {
            $headers['Authorization'] = "Bearer $this->token";
        }
        return $this->transport->request($method, $path, $headers, $body, $wait + self::PATIENCE);
    }

    /** A path of these parts, each percent-encoded. */
    public static function path(string ...$parts): string
    {
        return '/' . implode('/', array_map(rawurlencode(...), $parts));
    }

    private function finish(string $kind, Ticket $ticket, string $body): void
    {
        $path = self::path($kind, $ticket->action, $ticket->clientId, $ticket->messageId);
        $headers = $ticket->connectionId === '' ? [] : ['X-Connection-Id' => $ticket->connectionId];
        $response = $this->request('POST', $path, $body, $headers);
        if ($response->status !== 204) {
            throw PushRefused::from($response);
        }
    }
}
