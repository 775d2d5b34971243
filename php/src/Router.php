<?php

declare(strict_types=1);

namespace Ws2Api;

use Psr\Log\LoggerInterface;
use Ws2Api\Attribute\Call;
use Ws2Api\Attribute\OnConnect;
use Ws2Api\Attribute\OnDisconnect;
use Ws2Api\Attribute\OnError;
use Ws2Api\Attribute\OnResult;
use Ws2Api\Attribute\OnResultError;
use Ws2Api\Attribute\OnSend;

/**
 * Gives each request of ws2api to the method that is marked for it, and turns what it returns or throws into the answer.
 *
 * A method's parameters are found by their types: `string` is the ClientId, `array` the payload (decoded), {@see Request} the
 * whole request, {@see PushFailed} how a push ended.
 *
 * - Without a method for `/connect` nobody comes in; without one for a Call the client gets NotImplemented; everything else is
 *   answered with 204.
 * - What a method throws and nobody expects is logged, and becomes 500: InternalError for a Call; `/result`, `/error` and the
 *   like come again, for `result_ttl`.
 * - With a {@see KeyStore}, what comes again with a known `Idempotency-Key` is answered without the method.
 */
final class Router
{
    private const ATTRIBUTES = [
        OnConnect::class => 'connect',
        Call::class => 'call',
        OnResult::class => 'result',
        OnError::class => 'error',
        OnSend::class => 'send',
        OnResultError::class => 'resulterror',
        OnDisconnect::class => 'disconnect',
    ];

    /** @var array<string, array<string, \Closure(Request): mixed>> kind to Action (empty: any) to what handles it */
    private array $handlers = [];

    /** @param string $prefix the path that `backend` has in ws2api's config, such as `/api` */
    public function __construct(
        private readonly ?KeyStore $keys = null,
        public readonly string $prefix = '',
        private readonly ?LoggerInterface $log = null,
    ) {
    }

    /** Takes all methods of these objects that are marked. @throws \LogicException when one cannot be called, or two are the same */
    public function add(object ...$objects): self
    {
        foreach ($objects as $object) {
            foreach ((new \ReflectionObject($object))->getMethods(\ReflectionMethod::IS_PUBLIC) as $method) {
                foreach ($method->getAttributes() as $attribute) {
                    if ($kind = self::ATTRIBUTES[$attribute->getName()] ?? null) {
                        $this->register($kind, $attribute->newInstance()->action ?? '', $object, $method);
                    }
                }
            }
        }
        return $this;
    }

    /** Null: not a path of ws2api's. */
    public function handle(Request $request): ?Response
    {
        if (!in_array($request->kind, self::ATTRIBUTES, true)) {
            return null;
        }
        if ($request->method !== 'POST') {
            return new Response(405, ['Allow' => 'POST']);
        }
        try {
            return match ($request->kind) {
                'connect' => $this->connect($request),
                'call' => $this->call($request),
                default => $this->once($request),
            };
        } catch (\Throwable $error) {
            $this->complain($request, $error);
            // The client may see this, so it says nothing of the inside.
            $body = (new CallError(ErrorCode::InternalError, 'see the log'))->body($request->subprotocol());
            return new Response(500, ['Content-Type' => 'application/json'], $body);
        }
    }

    private function connect(Request $request): Response
    {
        $handler = $this->handlers['connect'][''] ?? static fn (): bool => false;
        try {
            return $handler($request) === true ? Response::json(200, 'ok') : new Response(403);
        } catch (Refused $refused) {
            return new Response($refused->status, $refused->headers);
        }
    }

    private function call(Request $request): Response
    {
        $action = $request->action();
        try {
            $handler = $this->find($request) ?? throw CallError::notImplemented("nothing here answers $action");
            $result = $handler($request);
        } catch (CallError $error) {
            $status = $error->errorCode === ErrorCode::InternalError ? 500 : 400;
            return new Response($status, ['Content-Type' => 'application/json'], $error->body($request->subprotocol()));
        }
        return $result instanceof Deferred ? new Response(202, ['X-Deferred' => '1']) : Response::json(200, $result);
    }

    /** What ws2api says at least once. */
    private function once(Request $request): Response
    {
        $handler = $this->find($request);
        $key = $request->header('Idempotency-Key');
        if ($handler === null) {
            return new Response(204);
        }
        if ($key === null || $this->keys === null) {
            $handler($request);
            return new Response(204);
        }
        switch ($this->keys->claim($key)) {
            case Claim::Done:
                return new Response(204);
            case Claim::Running:
                // ws2api gave up on the first try, which still runs: it comes again a little later.
                return new Response(503, ['Retry-After' => '1']);
            case Claim::Fresh:
                try {
                    $handler($request);
                } catch (\Throwable $error) {
                    $this->keys->release($key);
                    throw $error;
                }
                $this->keys->keep($key);
                return new Response(204);
        }
    }

    /** @return (\Closure(Request): mixed)|null */
    private function find(Request $request): ?\Closure
    {
        $handlers = $this->handlers[$request->kind] ?? [];
        return $handlers[$request->action()] ?? $handlers[''] ?? null;
    }

    private function register(string $kind, string $action, object $object, \ReflectionMethod $method): void
    {
        $name = $method->getDeclaringClass()->getName() . '::' . $method->getName();
        if (isset($this->handlers[$kind][$action])) {
            throw new \LogicException("$name: there is another method for $kind $action");
        }
        $sources = [];
        foreach ($method->getParameters() as $parameter) {
            $type = $parameter->getType();
            $sources[] = match ($type instanceof \ReflectionNamedType ? $type->getName() : null) {
                'string' => static fn (Request $request): string => $request->clientId(),
                'array' => static fn (Request $request): array => $request->payload(),
                Request::class => static fn (Request $request): Request => $request,
                PushFailed::class => match ($kind) {
                    'error' => PushFailed::posted(...),
                    default => throw new \LogicException("$name: only #[OnError] has a PushFailed"),
                },
                default => throw new \LogicException(
                    "$name: \${$parameter->getName()} is neither string (the ClientId) nor array (the payload), Request or PushFailed",
                ),
            };
        }
        $call = $method->getClosure($object);
        $this->handlers[$kind][$action] = static fn (Request $request): mixed => $call(
            ...array_map(static fn (\Closure $source): mixed => $source($request), $sources),
        );
    }

    private function complain(Request $request, \Throwable $error): void
    {
        $text = "$request->kind {$request->action()} of {$request->clientId()}: $error";
        $this->log === null ? error_log($text) : $this->log->error($text, ['exception' => $error]);
    }
}
