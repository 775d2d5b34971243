<?php

// A small charging backend for ws2api, with the library in ../../php. index.php (php -S, PHP-FPM) and ../roadrunner/worker.php see
// to how requests come in and answers go out.

declare(strict_types=1);

use Ws2Api\Attribute\Call;
use Ws2Api\Attribute\OnConnect;
use Ws2Api\Attribute\OnDisconnect;
use Ws2Api\Attribute\OnError;
use Ws2Api\Attribute\OnResult;
use Ws2Api\CallError;
use Ws2Api\ClientError;
use Ws2Api\Deferred;
use Ws2Api\FileKeyStore;
use Ws2Api\Ingress;
use Ws2Api\IngressUnreachable;
use Ws2Api\NoAnswer;
use Ws2Api\Push;
use Ws2Api\PushFailed;
use Ws2Api\PushRefused;
use Ws2Api\Refused;
use Ws2Api\Request;
use Ws2Api\Response;
use Ws2Api\Router;
use Ws2Api\Ticket;

require __DIR__ . '/presence.php';

final class Charging
{
    /** The vendor whose DataTransfers this backend knows. */
    private const VENDOR = 'ws2api.example';

    private readonly Push $push;
    private readonly Presence $presence;

    /** @param string $folder for what all workers share; in earnest that is a database */
    public function __construct(private readonly Ingress $ingress, private readonly string $folder)
    {
        $this->push = new Push($ingress);
        $this->presence = new Presence("$folder/online");
    }

    public static function fromEnvironment(): self
    {
        return new self(Ingress::fromEnvironment(), getenv('WS2API_STATE') ?: sys_get_temp_dir() . '/ws2api-charging');
    }

    public function router(): Router
    {
        return (new Router(new FileKeyStore("$this->folder/keys")))->add($this);
    }

    /** May this client come in? */
    #[OnConnect]
    public function connect(string $client, Request $request): bool
    {
        // A password, if we want one: HTTP Basic, whose user is the ClientId (ws2api has seen to that).
        $password = getenv('CHARGER_PASSWORD') ?: null;
        $known = 'Basic ' . base64_encode("$client:$password");
        if ($password !== null && !hash_equals($known, $request->header('Authorization') ?? '')) {
            throw Refused::password('charging');
        }
        // A certificate, if it has one: the load balancer says which (config/haproxy.cfg).
        if (($request->header('X-Ssl-Client-Cn') ?? $client) !== $client) {
            return false;
        }
        $this->presence->came($client, $request->connectionId());
        return true;
    }

    #[OnDisconnect]
    public function left(string $client, Request $request, array $how): void
    {
        $this->presence->went($client, $request->connectionId());
        error_log("$client has left, connection {$how['connectionId']}, {$how['code']}");
    }

    #[Call('BootNotification')]
    public function boot(): array
    {
        return ['currentTime' => self::now(), 'interval' => 300, 'status' => 'Accepted'];
    }

    #[Call('Heartbeat')]
    public function heartbeat(): array
    {
        return ['currentTime' => self::now()];
    }

    #[Call('StatusNotification'), Call('MeterValues'), Call('StopTransaction'), Call('TransactionEvent')]
    public function note(): array
    {
        return []; // the client gets {}
    }

    #[Call('StartTransaction')]
    public function startTransaction(): array
    {
        return ['transactionId' => random_int(1, 2 ** 31 - 1), 'idTagInfo' => ['status' => 'Accepted']];
    }

    #[Call('Authorize')]
    public function authorize(array $payload): array
    {
        return match (true) {
            isset($payload['idTag']) => ['idTagInfo' => ['status' => 'Accepted']], // OCPP 1.6
            isset($payload['idToken']) => ['idTokenInfo' => ['status' => 'Accepted']], // OCPP 2
            // This becomes a CallError with these words.
            default => throw CallError::occurrenceConstraintViolation('whom to authorize is missing', ['field' => 'idTag']),
        };
    }

    /** Three things that a Call's method may do beside answering; `messageId` says which. */
    #[Call('DataTransfer')]
    public function dataTransfer(string $client, array $payload, Request $request): array|Deferred
    {
        if (($payload['vendorId'] ?? null) !== self::VENDOR) {
            return ['status' => 'UnknownVendorId'];
        }
        switch ($payload['messageId'] ?? '') {
            // Asks the client back, while it waits for our answer, and tells it what it said.
            case 'Mirror':
                try {
                    $asked = ['vendorId' => self::VENDOR, 'data' => (string) ($payload['data'] ?? '')];
                    $answer = $this->push->call($client, 'DataTransfer', $asked)->payload();
                    return ['status' => 'Accepted', 'data' => json_encode($answer)];
                } catch (PushFailed $error) {
                    return ['status' => 'Rejected', 'data' => $error->getMessage()];
                }

            // Pushes and does not wait: the outcome comes to result() or error().
            case 'Trigger':
                $accepted = $this->push->send($client, 'TriggerMessage', ['requestedMessage' => 'StatusNotification']);
                return ['status' => 'Accepted', 'data' => $accepted->messageId];

            // A person has to decide: approve() answers, in whatever process.
            case 'Approve':
                $this->store($client, (string) $request->ticket());
                return new Deferred();

            default:
                return ['status' => 'UnknownMessageId'];
        }
    }

    #[OnResult]
    public function result(string $client, Request $request): void
    {
        $this->outcome($client, $request, 'answer');
    }

    #[OnError]
    public function error(string $client, Request $request, PushFailed $error): void
    {
        $this->outcome($client, $request, $error instanceof NoAnswer ? 'no answer' : 'answer');
    }

    /** Our own API, for our own app and our operators; everything that is no path of ws2api's. */
    public function own(Request $request): Response
    {
        $body = $request->payload();
        try {
            return match ("$request->method $request->kind") {
                // POST /start/CP1 {"tag":"ABC"} starts charging there.
                'POST start' => $this->start($request->names[0] ?? '', (string) ($body['tag'] ?? 'UNKNOWN')),
                // POST /approve/CP1 {"status":"Accepted"} answers its DataTransfer that waits.
                'POST approve' => $this->approve($request->names[0] ?? '', (string) ($body['status'] ?? 'Accepted')),
                // GET /online: who is connected, as far as we have been told.
                'GET online' => Response::json(200, ['clients' => $this->presence->online()]),
                // POST /reconcile, from time to time: who is really connected.
                'POST reconcile' => Response::json(200, $this->presence->reconcile($this->ingress->clients())),
                default => new Response(404),
            };
        } catch (ClientError $error) {
            return Response::json(422, ['code' => $error->errorCode, 'description' => $error->description]);
        } catch (NoAnswer $error) {
            return Response::json(504, ['code' => $error->reason, 'sent' => $error->sent]);
        } catch (PushRefused $error) {
            return Response::json($error->status, ['error' => $error->error]);
        } catch (IngressUnreachable) {
            return Response::json(503, ['error' => 'ws2api is not there']);
        }
    }

    /** Starts charging at a client, in its version of OCPP, and gives back what it says. */
    private function start(string $client, string $tag): Response
    {
        $answer = match ($this->ingress->client($client)['subprotocol'] ?? null) {
            'ocpp2.0.1', 'ocpp2.1' => $this->push->call($client, 'RequestStartTransaction', [
                'idToken' => ['idToken' => $tag, 'type' => 'Central'],
                'remoteStartId' => random_int(1, 2 ** 31 - 1),
            ]),
            default => $this->push->call($client, 'RemoteStartTransaction', ['idTag' => $tag]),
        };
        return Response::json(200, $answer->raw());
    }

    private function approve(string $client, string $status): Response
    {
        $ticket = @file_get_contents($this->ticketFile($client));
        if ($ticket === false) {
            return Response::json(404, ['error' => 'nothing of this client waits']);
        }
        $this->ingress->answer(Ticket::from($ticket), ['status' => $status]);
        unlink($this->ticketFile($client));
        return new Response(204);
    }

    private function store(string $client, string $ticket): void
    {
        @mkdir("$this->folder/tickets", 0700, true);
        file_put_contents($this->ticketFile($client), $ticket);
    }

    private function ticketFile(string $client): string
    {
        return "$this->folder/tickets/" . hash('sha256', $client);
    }

    private function outcome(string $client, Request $request, string $origin): void
    {
        $key = $request->header('Idempotency-Key');
        $names = "{$request->action()} {$request->messageId()} for $client";
        error_log("$request->kind of $names ($origin, key $key): $request->body");
    }

    private static function now(): string
    {
        return gmdate('Y-m-d\TH:i:s\Z');
    }
}
