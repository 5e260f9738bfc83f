"""Every documented name can be imported from where it is documented, or says what to use instead.

The tables follow section 1 of the inventory of what such a system documents.
"""

import importlib
import inspect

import pytest

from taskiq_flow.exceptions import NotShippedError

NAMES = {
    "taskiq_flow": """
        AbortPipeline BaseStorageAdapter CPUProfile CacheMiddleware ConfigurationError CycleError
        DAG DAGBuilder DAGNode DAGVisualizer DataCache DataNode DataflowPipeline DataflowRegistry
        ExecutionEngine HookManager InMemoryPipelineStorage MapReduce MetricsCollector Pipeline
        PipelineContext PipelineError PipelineMiddleware PipelineRetryMiddleware PipelineScheduler
        PipelineTrackingManager PipelineVisualizationAPI RAMProfile RedisPipelineStorage RetryPolicy
        StorageAdapterFactory StorageEntry StorageMiddleware Task TaskInfo TaskNotFoundError
        TaskiqFlowConfig TaskiqFlowError TrackingError TrackingStorageFactory
        calculate_exponential_backoff_delay create_visualization_api get_all_pipeline_outputs
        get_pipeline_metadata get_task_by_output get_task_inputs get_task_outputs is_pipeline_task
        pipeline_task pipeline_task_multi_output resolve_task_dependencies validate_pipeline_outputs
        visualize_pipeline
    """,
    "taskiq_flow.broker": "RedisStreamBroker",
    "taskiq_flow.pipeliner": "DataflowPipeline Pipeline",
    "taskiq_flow.steps": """
        BranchStep ConditionStep FilterStep GroupStep IfStep MapperStep ReduceStep SequentialStep
        TimeoutStep
    """,
    "taskiq_flow.middleware": "PipelineMiddleware",
    "taskiq_flow.task": "PipelineTask Task",
    "taskiq_flow.decorators": """
        BaseTaskDecorator CPUProfile RAMProfile TaskInfo get_task_inputs get_task_outputs
        is_pipeline_task pipeline_task pipeline_task_multi_output resolve_task_dependencies
    """,
    "taskiq_flow.dataflow": """
        DAG DAGBuilder DAGNode DataCache DataNode DataflowRegistry pipeline_task
        pipeline_task_multi_output
    """,
    "taskiq_flow.dataflow.dag": "DAG DAGNode",
    "taskiq_flow.dataflow.builder": "DAGBuilder",
    "taskiq_flow.dataflow.registry": "DataflowRegistry",
    "taskiq_flow.dataflow.cache": "DataCache",
    "taskiq_flow.execution_engine": "ExecutionEngine",
    "taskiq_flow.errors": "ErrorHandlingMode PipelineErrorAggregator",
    "taskiq_flow.exceptions": """
        AbortPipeline ConfigurationError CycleError InvalidOutputError PipelineError
        TaskNotFoundError TaskiqFlowError TrackingError
    """,
    "taskiq_flow.map_reduce": "ChunkConfig MapReduce MapResult",
    "taskiq_flow.hooks": "EventFilter HookManager TrackingEventBroadcaster",
    "taskiq_flow.cache": "BaseCacheAdapter InMemoryCacheAdapter RedisCacheAdapter",
    "taskiq_flow.storage": """
        BaseStorageAdapter InMemoryStorageAdapter RedisStorageAdapter SQLiteStorageAdapter
        StorageEntry
    """,
    "taskiq_flow.storage.factory": "StorageAdapterFactory",
    "taskiq_flow.middlewares.storage": "StorageMiddleware",
    "taskiq_flow.middlewares": """
        CacheMiddleware DLQManager PipelineRetryMiddleware RetryMiddleware StorageMiddleware
    """,
    "taskiq_flow.visualization": """
        DAGVisualizer MermaidGenerator RendererRegistry set_renderer_registry visualize_pipeline
    """,
    "taskiq_flow.scheduling": """
        PipelineScheduler create_cron_trigger create_date_trigger create_interval_trigger every_day
        every_hour every_minute in_hours in_minutes in_seconds
    """,
    "taskiq_flow.scheduling.scheduler": "PipelineScheduler",
    "taskiq_flow.scheduling.triggers": """
        create_cron_trigger create_date_trigger create_interval_trigger every_day every_hour
        every_minute in_hours in_minutes in_seconds
    """,
    "taskiq_flow.api": "PipelineVisualizationAPI create_visualization_api",
    "taskiq_flow.security": """
        HTTPSEnforcement PipelineAuthorization SecurityMiddleware TokenAuthProvider
        verify_pipeline_access
    """,
    "taskiq_flow.security.audit": "AuditLogger",
    "taskiq_flow.progress": "ProgressTracker TaskProgress get_progress",
    "taskiq_flow.result_backends": """
        AsyncResultBackend DummyResultBackend FileResultBackend InmemoryResultBackend
        RedisResultBackend ResultGetError ResultIsReadyError SQLResultBackend
    """,
    "taskiq_flow.optimization": """
        ResourceAwareExecutor TaskResourceProfile get_default_executor
    """,
    "taskiq_flow.optimization.parallel": "set_max_parallel_tasks",
    "taskiq_flow.middlewares.retry": "DLQManager PipelineRetryMiddleware RetryMiddleware",
    "taskiq_flow.metrics": "MetricsMiddleware",
    "taskiq_flow.metrics.collector": "MetricsCollector",
    "taskiq_flow.metrics.exporters.prometheus": "get_metrics_endpoint",
}

NOT_SHIPPED = {
    "taskiq_flow": """
        JobPersistenceManager LabelBasedScheduler ResourceAwareWorkerPool TransportMiddleware
        setup_websocket_bridge
    """,
    "taskiq_flow.integration.websocket": """
        PipelineWebSocketServer get_websocket_server setup_websocket_bridge
    """,
    "taskiq_flow.integration": "DAGViewer",
    "taskiq_flow.integration.nicegui": "DAGViewer",
    "taskiq_flow.profiling": "Profiler generate_flamegraph profile",
    "taskiq_flow.scheduling": "JobPersistenceManager LabelBasedScheduler",
    "taskiq_flow.scheduling.storage": "JobPersistenceManager PipelineExecution SchedulerJob",
    "taskiq_flow.serialization": "dumps_scientific loads_scientific",
    "taskiq_flow.transport": """
        HTTPStreamTransport RedisPubSubTransport WebSocketTransport get_http_stream_transport
    """,
}

METHODS = {
    "taskiq_flow.Pipeline": """
        call_after call_next filter group kiq map on_error on_failure pipeline_id print_dag
        visualize visualize_dot with_context with_hooks with_id with_retry with_timeout
        with_tracking _repr_html_ _repr_mimebundle_
    """,
    "taskiq_flow.PipelineTask": """
        cancel events failed_step get_status is_failed is_finished is_ready partial_results
        pipeline_id run_id wait_result
    """,
    "taskiq_flow.DataflowPipeline": """
        add_dataflow_task add_task build_dag from_tasks kiq kiq_dataflow kiq_map_reduce
        kiq_map_reduce_advanced kiq_map_sweep map on_error print_dag reduce schedule_with_cron
        schedule_with_interval schedule_with_labels visualize visualize_dot with_hooks with_retry
        with_timeout with_tracking
    """,
    "taskiq_flow.DataflowRegistry": """
        build_dag get_consumers get_data_dependencies get_external_inputs get_outputs get_producer
        get_task_metadata get_tasks register_task register_task_from_object
    """,
    "taskiq_flow.DAG": """
        compute_levels edges get_parallel_levels get_ready_tasks leaves levels nodes print roots
        topological_sort validate _repr_html_ _repr_mimebundle_
    """,
    "taskiq_flow.DAGBuilder": """
        add_task analyze_missing_dependencies build from_callable_tasks from_tasks node validate_dag
    """,
    "taskiq_flow.DataCache": "clear get has inject keys set",
    "taskiq_flow.ExecutionEngine": """
        cancel execute execute_async get_execution_report schedule_task
    """,
    "taskiq_flow.errors.PipelineErrorAggregator": "add_error failed_tasks has_errors",
    "taskiq_flow.MapReduce": "map map_reduce map_sweep reduce",
    "taskiq_flow.PipelineMiddleware": "on_step_complete on_step_error on_step_start",
    "taskiq_flow.DAGVisualizer": """
        detect_critical_path find_parallelizable_groups print_ascii to_cytoscape_json to_dot
        to_graphviz to_json to_json_extended to_networkx visualize_ascii
    """,
    "taskiq_flow.MermaidGenerator": "to_mermaid to_mermaid_interactive to_mermaid_with_styling",
    "taskiq_flow.PipelineScheduler": """
        get_job get_jobs get_stats list_jobs modify_job on_error pause_job remove_job
        reschedule_job resume_job run_now schedule schedule_at schedule_interval shutdown start
        __aenter__
    """,
    "taskiq_flow.PipelineVisualizationAPI": """
        add_pipeline dag_router get_app get_dag get_status list_pipelines pipelines visualize
        websocket_router
    """,
    "taskiq_flow.HookManager": "add_filter add_hook dispatch register unregister",
}

PARAMETERS = {
    "taskiq_flow.Pipeline": "broker task max_parallel timeout pipeline_id",
    "taskiq_flow.Pipeline.call_next": "task param_name",
    "taskiq_flow.Pipeline.map": "task items output max_parallel param_name skip_errors",
    "taskiq_flow.Pipeline.group": "tasks param_names",
    "taskiq_flow.Pipeline.with_retry": "max_attempts delay backoff on_retry policy",
    "taskiq_flow.PipelineTask.wait_result": "check_interval timeout with_logs raise_on_error",
    "taskiq_flow.DataflowPipeline": "broker tasks max_parallel timeout pipeline_id",
    "taskiq_flow.DataflowPipeline.map": "task items output max_parallel",
    "taskiq_flow.DataflowPipeline.reduce": "task input_name output chunk_size initial",
    "taskiq_flow.DataflowPipeline.kiq_map_reduce": "items map_output reduce_output",
    "taskiq_flow.DataflowPipeline.kiq_map_reduce_advanced": """
        map_task reduce_task items map_output reduce_output map_param_name max_parallel
        reduce_chunk_size
    """,
    "taskiq_flow.DataflowPipeline.kiq_map_sweep": "task param_values output max_parallel",
    "taskiq_flow.pipeline_task": "output outputs inputs resources",
    "taskiq_flow.DAGNode": "task output inputs metadata",
    "taskiq_flow.DataflowRegistry.register_task": "task output inputs",
    "taskiq_flow.ExecutionEngine": """
        broker dag max_parallel on_step_complete error_mode fail_fast continue_on_error skip_failed
    """,
    "taskiq_flow.ExecutionEngine.execute": "inputs pipeline_id",
    "taskiq_flow.MapReduce.map": """
        broker task items output max_parallel chunk_config progress_callback
    """,
    "taskiq_flow.MapReduce.reduce": "broker task inputs output input_name initial chunk_size",
    "taskiq_flow.MapReduce.map_reduce": "broker map_task reduce_task items map_func reduce_func",
    "taskiq_flow.MapReduce.map_sweep": "broker task param_values output max_parallel",
    "taskiq_flow.map_reduce.ChunkConfig": "chunk_size max_chunks adaptive",
    "taskiq_flow.PipelineMiddleware": "tracking_manager hook_manager metrics_collector",
    "taskiq_flow.MermaidGenerator.to_mermaid": "orientation",
    "taskiq_flow.create_visualization_api": "broker app config",
    "taskiq_flow.PipelineVisualizationAPI": "broker app config",
    "taskiq_flow.security.TokenAuthProvider": "secret_key",
    "taskiq_flow.security.SecurityMiddleware": "auth_provider",
    "taskiq_flow.security.PipelineAuthorization": "rules pipeline_acls",
    "taskiq_flow.security.AuditLogger.log_access": "user action pipeline_id success ip details",
    "taskiq_flow.TaskiqFlowConfig": """
        api_keys auth_provider jwt_algorithm jwt_secret pipeline_acls rate_limit_default
        rate_limit_enabled require_https security_enabled
    """,
}


def _each(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(place, name) for place, names in table.items() for name in names.split()]


def _found(place: str) -> object:
    module, _, name = place.rpartition(".")
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError:
        return getattr(_found(module), name)


@pytest.mark.parametrize(("module", "name"), _each(NAMES))
def test_a_documented_name_is_where_it_is_documented(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(("module", "name"), _each(NOT_SHIPPED))
def test_a_name_that_is_not_shipped_says_what_to_use(module: str, name: str) -> None:
    with pytest.raises(NotShippedError, match=rf"^{name} is not part of Taskiq-Flow; use \w+"):
        exec(f"from {module} import {name}")


@pytest.mark.parametrize("module", NOT_SHIPPED)
def test_a_name_that_nobody_documents_is_an_ordinary_import_error(module: str) -> None:
    with pytest.raises(ImportError) as caught:
        exec(f"from {module} import nobody_documents_this")

    assert not isinstance(caught.value, NotShippedError)


@pytest.mark.parametrize(("place", "name"), _each(METHODS))
def test_a_class_has_what_is_documented_of_it(place: str, name: str) -> None:
    assert hasattr(_found(place), name)


@pytest.mark.parametrize(("place", "name"), _each(PARAMETERS))
def test_a_documented_parameter_is_accepted(place: str, name: str) -> None:
    signature = inspect.signature(_found(place))

    assert name in signature.parameters
